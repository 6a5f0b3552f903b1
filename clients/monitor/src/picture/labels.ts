// Names over the picture, as a few elements that move: the tokens that stand out, the one under the pointer, and a
// ring around the selected one. And the numbers of the rules at the edge.
import { type Camera, ticks, toScreen, type Viewport } from './camera';

export interface Label {
  slot: number;
  text: string;
  kind: 'hub' | 'hover' | 'selected';
}

export interface Dot {
  x: number;
  y: number;
  radius: number;
}

/** Where a label is at most. */
interface Box {
  left: number;
  top: number;
  width: number;
}

const CHARACTER_PIXELS = 6.4;
const LINE_PIXELS = 17;

export class Labels {
  private readonly spans: HTMLSpanElement[] = [];
  private readonly marks: HTMLSpanElement[] = [];
  private readonly ring: HTMLSpanElement;

  constructor(private readonly host: HTMLElement) {
    this.ring = this.element([], 0, 'ring');
    this.ring.hidden = true;
  }

  /**
   * Put the labels beside their tokens, on the side where they lie on no dot and no earlier label; where there is no
   * such side, the label of a token that nobody pointed at stays away.
   */
  put(
    labels: Label[],
    place: (slot: number) => { x: number; y: number },
    radius: (slot: number) => number,
    viewport: Viewport,
    dots: readonly Dot[] = [],
  ): void {
    const taken: Box[] = [];
    let used = 0;
    for (const label of labels) {
      const at = place(label.slot);
      const width = label.text.length * CHARACTER_PIXELS + 12;
      const away = radius(label.slot) + 4;
      const middle = at.y - LINE_PIXELS / 2;
      // How much of its true width, which only the browser knows, is left of `x`.
      const sides = [
        { x: at.x + away, top: middle, before: 0 },
        { x: at.x - away, top: middle, before: 1 },
        { x: at.x, top: at.y - away - LINE_PIXELS, before: 0.5 },
        { x: at.x, top: at.y + away, before: 0.5 },
      ].map((side) => ({ ...side, box: { left: side.x - side.before * width, top: side.top, width } }));
      const onScreen = ({ left, top }: Box) =>
        left >= 0 && top >= 0 && left + Math.min(width, 60) <= viewport.width && top + LINE_PIXELS <= viewport.height;
      const free = (box: Box) => !taken.some((one) => meet(one, box)) && !dots.some((dot) => liesOn(box, dot));
      const [right] = sides as [(typeof sides)[0]];
      const side =
        sides.find(({ box }) => onScreen(box) && free(box)) ??
        (label.kind !== 'hub' && onScreen(right.box) ? right : null);
      if (!side) continue;
      taken.push(side.box);
      const span = this.element(this.spans, used++, 'label');
      if (span.textContent !== label.text) span.textContent = label.text;
      span.dataset.kind = label.kind;
      span.hidden = false;
      const { x, top, before } = side;
      span.style.transform = `translate(${Math.round(x)}px, ${Math.round(top)}px) translateX(${-100 * before}%)`;
    }
    for (let i = used; i < this.spans.length; i++) (this.spans[i] as HTMLSpanElement).hidden = true;
  }

  clear(): void {
    for (const span of [...this.spans, ...this.marks, this.ring]) span.hidden = true;
  }

  /** Take all of them away. */
  close(): void {
    for (const span of [...this.spans, ...this.marks, this.ring]) span.remove();
  }

  putRing(at: { x: number; y: number } | null, radius: number): void {
    this.ring.hidden = at === null;
    if (!at) return;
    const size = Math.round(radius * 2 + 10);
    this.ring.style.width = this.ring.style.height = `${size}px`;
    this.ring.style.transform = `translate(${at.x - size / 2}px, ${at.y - size / 2}px)`;
  }

  putMarks(camera: Camera, viewport: Viewport): void {
    let used = 0;
    const mark = (value: number, x: number, y: number, axis: string) => {
      const span = this.element(this.marks, used++, 'mark');
      const text = String(Number(value.toPrecision(6)));
      if (span.textContent !== text) span.textContent = text;
      span.dataset.axis = axis;
      span.hidden = false;
      span.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
    };
    for (const x of ticks(camera.x, camera.scaleX, viewport.width)) {
      const at = toScreen(camera, viewport, x, 0).x;
      if (at > 40 && at < viewport.width - 40) mark(x, at + 3, viewport.height - 15, 'x');
    }
    for (const y of ticks(camera.y, camera.scaleY, viewport.height)) {
      const at = toScreen(camera, viewport, 0, y).y;
      if (at > 60 && at < viewport.height - 30) mark(y, 5, at + 1, 'y');
    }
    for (let i = used; i < this.marks.length; i++) (this.marks[i] as HTMLSpanElement).hidden = true;
  }

  private element(pool: HTMLSpanElement[], index: number, name: string): HTMLSpanElement {
    const there = pool[index];
    if (there) return there;
    const span = document.createElement('span');
    span.className = name;
    this.host.append(span);
    pool[index] = span;
    return span;
  }
}

function meet(a: Box, b: Box): boolean {
  return Math.abs(a.top - b.top) < LINE_PIXELS && a.left < b.left + b.width && b.left < a.left + a.width;
}

function liesOn({ left, top, width }: Box, dot: Dot): boolean {
  const dx = dot.x - Math.min(Math.max(dot.x, left), left + width);
  const dy = dot.y - Math.min(Math.max(dot.y, top), top + LINE_PIXELS);
  return Math.hypot(dx, dy) < dot.radius;
}
