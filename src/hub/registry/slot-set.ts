/** Above this many a bitmap is smaller than a list. */
const LIST_MAX = 4096;

/** A set of slot numbers: a list while it is small, a bitmap once it is large. Each slot is added once. */
export class SlotSet {
  #list: number[] | undefined = [];
  #lookup: Set<number> | undefined;
  #bits = new Uint8Array(0);

  add(slot: number): void {
    if (this.#list !== undefined) {
      this.#list.push(slot);
      this.#lookup = undefined;
      if (this.#list.length > LIST_MAX) this.#spread(this.#list);
      return;
    }
    this.#set(slot);
  }

  has(slot: number): boolean {
    if (this.#list === undefined) return (((this.#bits[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1;
    this.#lookup ??= new Set(this.#list);
    return this.#lookup.has(slot);
  }

  #spread(list: number[]): void {
    this.#list = undefined;
    this.#lookup = undefined;
    for (const slot of list) this.#set(slot);
  }

  #set(slot: number): void {
    const at = slot >> 3;
    if (at >= this.#bits.length) {
      const larger = new Uint8Array(Math.max(at + 1, this.#bits.length * 2));
      larger.set(this.#bits);
      this.#bits = larger;
    }
    this.#bits[at] = (this.#bits[at] as number) | (1 << (slot & 7));
  }
}

/** The bits that are set in a piece of a Redis bitmap (bit 0 is the highest of the first byte), as slots from `firstSlot` on. */
export function* setBits(bitmap: Uint8Array, firstSlot: number): Generator<number> {
  for (const [at, byte] of bitmap.entries()) {
    for (let bit = 0; byte !== 0 && bit < 8; bit++) {
      if ((byte & (0x80 >> bit)) !== 0) yield firstSlot + at * 8 + bit;
    }
  }
}
