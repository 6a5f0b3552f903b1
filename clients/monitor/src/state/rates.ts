// How many events came in each of the last seconds. Times are of a clock that nobody sets: `performance.now()`.
export const RATE_SECONDS = 60;

export class Rate {
  private readonly counts = new Uint32Array(RATE_SECONDS + 1);
  private second = -1;

  /** One event at `atMs`. */
  add(atMs: number): void {
    this.advance(atMs);
    const index = this.second % this.counts.length;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
  }

  /** Counts of the last full seconds before `atMs`, oldest first. */
  series(atMs: number): number[] {
    this.advance(atMs);
    return Array.from({ length: RATE_SECONDS }, (_, i) => {
      const second = this.second - RATE_SECONDS + i;
      return second < 0 ? 0 : (this.counts[second % this.counts.length] ?? 0);
    });
  }

  /** Events per second, over the last `seconds` full seconds. */
  perSecond(atMs: number, seconds = 5): number {
    this.advance(atMs);
    let sum = 0;
    for (let back = 1; back <= Math.min(seconds, this.second); back++) {
      sum += this.counts[(this.second - back) % this.counts.length] ?? 0;
    }
    return sum / seconds;
  }

  private advance(atMs: number): void {
    const now = Math.floor(atMs / 1000);
    if (this.second < 0 || now - this.second > RATE_SECONDS) {
      this.counts.fill(0);
      this.second = Math.max(now, this.second);
      return;
    }
    while (this.second < now) this.counts[++this.second % this.counts.length] = 0;
  }
}
