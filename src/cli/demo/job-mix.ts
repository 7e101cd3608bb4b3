import type { MatchRequest } from '../../sdk/types.ts';
import { CAPABILITIES } from '../fleet-catalog.ts';
import { pick, type Random, weightedIndex } from '../random.ts';

type Ask = Pick<MatchRequest, 'requirements' | 'hints'>;

interface Kind {
  readonly weight: number;
  ask(random: Random): Ask;
}

const REGIONS_ASKED = ['eu', 'us', 'eu-west', 'ap'] as const;

/** What clients of a pool ask for: mostly common models, now and then a large or rare one, and some things that do not exist. */
const KINDS: readonly Kind[] = [
  {
    weight: 30,
    ask: (random) => ({
      requirements: { capabilities_any: ['sentence-transformers/all-MiniLM-L6-v2'], min_ram_gb: 8 },
      hints: { region: pick(random, REGIONS_ASKED), max_price: 0.8 },
    }),
  },
  {
    weight: 25,
    ask: () => ({
      requirements: {
        accel: ['cuda'],
        min_vram_gb: 16,
        capabilities_any: ['meta-llama/Llama-3.1-8B-Instruct', 'Qwen/Qwen2.5-7B-Instruct'],
      },
      hints: { strategy: 'fastest', deadline_ms: 5000 },
    }),
  },
  {
    weight: 18,
    ask: () => ({
      requirements: { capabilities_any: ['stabilityai/stable-diffusion-xl-base-1.0'], min_vram_gb: 10 },
      hints: { strategy: 'cheapest' },
    }),
  },
  {
    weight: 10,
    ask: (random) => ({
      requirements: { tags_any: ['low-latency'], capabilities_any: ['openai/whisper-large-v3'] },
      hints: { region: pick(random, REGIONS_ASKED), strategy: 'trusted' },
    }),
  },
  {
    weight: 6,
    ask: () => ({ requirements: { min_vram_gb: 80, tags_none: ['spot'] }, hints: { max_price: 3 } }),
  },
  {
    weight: 6,
    ask: (random) => ({ requirements: { capabilities_any: [pick(random, CAPABILITIES).name] } }),
  },
  { weight: 5, ask: () => ({ requirements: { min_vram_gb: 141 }, hints: { max_price: 0.9 } }) },
];

const pickKind = weightedIndex(KINDS.map(({ weight }) => weight));

/** What the next job needs. */
export function nextAsk(random: Random): Ask {
  return (KINDS[pickKind(random)] as Kind).ask(random);
}
