// How much is drawn per frame, so that frames stay short on slow machines too: the sheet is drawn piece by piece, and the
// pieces grow and shrink with the time that frames take. Pure: it is told the frame times.

const GOOD_MS = 20;
const BAD_MS = 30;
const FIRST_BUDGET = 6000;
const BUDGET_LEAST = 1200;
const BUDGET_MOST = 800_000;
const HEADROOM = 3;
const CALM_FRAMES = 40;
const FINE_AGAIN_MS = 15_000;
const FRAMES_KEPT = 1200;
/** A pause this long is a hidden tab or a machine that slept, not a frame. */
const PAUSE_MS = 2000;

export class Pace {
  /** What may be drawn in the next frame, in edges. */
  budget = FIRST_BUDGET;
  /** Whether edges are smoothed while things move, which costs. */
  fine = false;
  private readonly times: number[] = [];
  private calm = 0;
  private fineFromMs = 0;

  /** From a frame, in which `drawn` was drawn, to the next it took `ms`; `whole`: nothing was left to draw. */
  frame(ms: number, drawn: number, whole: boolean, nowMs: number): void {
    if (ms > PAUSE_MS) return;
    this.times.push(ms);
    if (this.times.length > 2 * FRAMES_KEPT) this.times.splice(0, FRAMES_KEPT);
    // A frame without a piece says nothing about pieces.
    if (drawn === 0) return;
    if (ms <= GOOD_MS) {
      // No more than was tried, and some: a small piece that went well proves nothing for large ones.
      if (drawn * HEADROOM > this.budget) this.budget = Math.min(BUDGET_MOST, Math.ceil(this.budget * 1.12));
      this.calm = whole ? this.calm + 1 : 0;
      if (this.calm > CALM_FRAMES && nowMs >= this.fineFromMs) this.fine = true;
    } else if (ms > BAD_MS) {
      this.budget = Math.max(BUDGET_LEAST, Math.floor(this.budget * Math.max(0.5, GOOD_MS / ms)));
      this.calm = 0;
      if (this.fine) this.fineFromMs = nowMs + FINE_AGAIN_MS;
      this.fine = false;
    }
  }

  /** The last frame times, oldest first, in milliseconds. */
  frames(): number[] {
    return this.times.slice(-FRAMES_KEPT);
  }
}
