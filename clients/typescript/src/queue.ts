/** A queue that lets go of what was taken, though it may never be empty. */

/** Fewer that were taken are not worth the copy of those that wait. */
const WORTH_A_COPY = 1_024;

/** First in, first out; both in constant time, by and large. `undefined` can't be in it. */
export class Queue<Item> {
  #items: Item[] = [];
  /** What is before it was taken. */
  #next = 0;

  get length(): number {
    return this.#items.length - this.#next;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  shift(): Item | undefined {
    const items = this.#items;
    if (this.#next === items.length) return undefined;
    const item = items[this.#next++];
    if (this.#next === items.length) this.clear();
    else if (this.#next >= WORTH_A_COPY && this.#next * 2 > items.length) {
      this.#items = items.slice(this.#next);
      this.#next = 0;
    }
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
  }
}
