/** A kind of machine that fleets are made of. */
export interface MachineClass {
  readonly gpu_name: string;
  readonly vram_gb: number;
  /** Share of the fleet, in any unit. */
  readonly weight: number;
  /** Middle of its price, tokens per 1,000 s for one GPU. */
  readonly price: number;
  /** How many GPUs one machine may have. */
  readonly gpu_counts: readonly number[];
  readonly ram_gb: readonly number[];
  readonly cpu_cores: readonly number[];
  /** Middle of its own latency at work, ms, without the network. */
  readonly latency_ms: number;
}

type Row = readonly [
  gpu_name: string,
  vram_gb: number,
  weight: number,
  price: number,
  gpu_counts: readonly number[],
  latency_ms: number,
];

const DESKTOP = { ram_gb: [16, 32, 64, 128], cpu_cores: [6, 8, 12, 16, 24] };
const SERVER = { ram_gb: [128, 256, 512, 1024], cpu_cores: [32, 48, 64, 96, 128] };

const desktop: readonly Row[] = [
  ['NVIDIA GeForce RTX 3060', 12, 12, 0.12, [1, 1, 2], 90],
  ['NVIDIA GeForce RTX 3090', 24, 11, 0.28, [1, 2, 4], 60],
  ['NVIDIA GeForce RTX 4060 Ti', 16, 9, 0.16, [1, 1, 2], 75],
  ['NVIDIA GeForce RTX 4070 Ti', 12, 8, 0.22, [1, 1, 2], 62],
  ['NVIDIA GeForce RTX 4080', 16, 7, 0.3, [1, 2], 52],
  ['NVIDIA GeForce RTX 4090', 24, 14, 0.45, [1, 2, 4, 8], 40],
  ['NVIDIA GeForce RTX 5090', 32, 4, 0.7, [1, 2, 4], 34],
  ['AMD Radeon RX 7900 XTX', 24, 4, 0.25, [1, 2], 70],
  ['Apple M2 Ultra', 128, 1, 0.4, [1], 110],
  ['Apple M3 Max', 64, 2, 0.3, [1], 120],
  ['', 0, 3, 0.05, [0], 400],
];

const server: readonly Row[] = [
  ['NVIDIA RTX A4000', 16, 3, 0.2, [1, 2, 4], 70],
  ['NVIDIA RTX A6000', 48, 4, 0.6, [1, 2, 4], 48],
  ['NVIDIA T4', 16, 4, 0.15, [1, 4], 110],
  ['NVIDIA L4', 24, 4, 0.35, [1, 2, 4], 65],
  ['NVIDIA L40S', 48, 3, 0.9, [1, 2, 4, 8], 38],
  ['NVIDIA V100', 32, 2, 0.35, [1, 4, 8], 80],
  ['NVIDIA A100 40GB', 40, 3, 1.1, [1, 4, 8], 36],
  ['NVIDIA A100 80GB', 80, 3, 1.5, [1, 4, 8], 34],
  ['NVIDIA H100', 80, 2, 2.6, [1, 4, 8], 24],
  ['NVIDIA H200', 141, 0.5, 3.4, [4, 8], 22],
  ['NVIDIA B200', 192, 0.2, 5.2, [8], 18],
  ['AMD Instinct MI210', 64, 1, 0.9, [1, 4], 55],
  ['AMD Instinct MI300X', 192, 0.5, 2.9, [8], 27],
];

const rows = (list: readonly Row[], host: typeof DESKTOP): MachineClass[] =>
  list.map(([gpu_name, vram_gb, weight, price, gpu_counts, latency_ms]) => ({
    gpu_name,
    vram_gb,
    weight,
    price,
    gpu_counts,
    latency_ms,
    ...host,
  }));

/** Consumer cards make up most of the fleet, a few machines have very large ones, and some have none. */
export const MACHINE_CLASSES: readonly MachineClass[] = [...rows(desktop, DESKTOP), ...rows(server, SERVER)];

/** Regions, the largest first; `latency_ms` is what the network adds. */
export const REGIONS: ReadonlyArray<{ name: string; weight: number; latency_ms: number }> = [
  { name: 'eu-west-1', weight: 22, latency_ms: 12 },
  { name: 'us-east-1', weight: 20, latency_ms: 85 },
  { name: 'eu-central-1', weight: 16, latency_ms: 9 },
  { name: 'us-west-2', weight: 12, latency_ms: 140 },
  { name: 'eu-north-1', weight: 8, latency_ms: 25 },
  { name: 'ap-southeast-1', weight: 8, latency_ms: 170 },
  { name: 'ap-northeast-1', weight: 6, latency_ms: 210 },
  { name: 'ca-central-1', weight: 4, latency_ms: 95 },
  { name: 'sa-east-1', weight: 3, latency_ms: 190 },
  { name: 'af-south-1', weight: 1, latency_ms: 160 },
];

/** Models as capabilities, the most popular first, with the VRAM (GB) that one needs to offer them. */
const MODELS: ReadonlyArray<readonly [name: string, vram_gb: number]> = [
  ['sentence-transformers/all-MiniLM-L6-v2', 0],
  ['meta-llama/Llama-3.1-8B-Instruct', 16],
  ['stabilityai/stable-diffusion-xl-base-1.0', 10],
  ['openai/whisper-large-v3', 10],
  ['Qwen/Qwen2.5-7B-Instruct', 16],
  ['black-forest-labs/FLUX.1-schnell', 24],
  ['mistralai/Mistral-7B-Instruct-v0.3', 15],
  ['BAAI/bge-m3', 4],
  ['meta-llama/Llama-3.1-70B-Instruct', 80],
  ['openai/clip-vit-large-patch14', 2],
  ['google/gemma-2-9b-it', 20],
  ['microsoft/phi-4', 28],
  ['Qwen/Qwen2.5-32B-Instruct', 64],
  ['mistralai/Mixtral-8x7B-Instruct-v0.1', 94],
  ['nvidia/parakeet-tdt-0.6b-v2', 4],
  ['deepseek-ai/DeepSeek-R1-Distill-Qwen-32B', 64],
  ['facebook/sam2-hiera-large', 8],
  ['Qwen/Qwen2.5-72B-Instruct', 141],
  ['bigcode/starcoder2-15b', 32],
  ['tencent/HunyuanVideo', 60],
];

/** Fine-tuned adapters that few machines have each: the long tail of a real pool. */
const TAIL = Array.from(
  { length: 236 },
  (_, n) => [`adapter/${String(n).padStart(3, '0')}`, n % 24] as const,
);

/** 256 capabilities, the most popular first. */
export const CAPABILITIES: ReadonlyArray<{ name: string; vram_gb: number }> = [...MODELS, ...TAIL].map(
  ([name, vram_gb]) => ({ name, vram_gb }),
);

/** Tags and how many of a hundred miners carry each. */
export const TAGS: ReadonlyArray<{ name: string; pct: number }> = [
  { name: 'low-latency', pct: 35 },
  { name: 'verified', pct: 55 },
  { name: 'spot', pct: 30 },
  { name: 'ipv6', pct: 40 },
  { name: 'green', pct: 15 },
  { name: 'nvlink', pct: 8 },
  { name: 'confidential', pct: 3 },
];
