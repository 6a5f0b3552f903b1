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
    const item = this.#items[this.#next];
    if (this.length > 0) this.#next++;
    if (this.length === 0) this.clear();
    else if (this.#next >= WORTH_A_COPY && this.#next > this.length) {
      this.#items = this.#items.slice(this.#next);
      this.#next = 0;
    }
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
  }
}
