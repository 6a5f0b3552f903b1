// Pointers, wheel and keys, as what they mean for the picture.

export interface Meaning {
  pan(dx: number, dy: number): void;
  zoom(x: number, y: number, factor: number): void;
  tap(x: number, y: number): void;
  hover(x: number, y: number): void;
  leave(): void;
  fit(): void;
  step(direction: 1 | -1): void;
  escape(): void;
  size(): { width: number; height: number };
}

const TAP_PIXELS = 5;
const KEY_PIXELS = 60;
const KEY_FACTOR = 1.3;

/** Listen on an element. Returns what ends it. */
export function listen(element: HTMLElement, meaning: Meaning): () => void {
  const pointers = new Map<number, { x: number; y: number }>();
  let travelled = 0;
  const at = (event: PointerEvent | WheelEvent) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    if (pointers.size === 0) travelled = 0;
    pointers.set(event.pointerId, at(event));
  };
  const move = (event: PointerEvent) => {
    const to = at(event);
    const from = pointers.get(event.pointerId);
    if (!from) {
      if (event.pointerType !== 'touch') meaning.hover(to.x, to.y);
      return;
    }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, to);
    travelled += Math.hypot(to.x - from.x, to.y - from.y);
    if (other) {
      const before = Math.hypot(from.x - other.x, from.y - other.y);
      const after = Math.hypot(to.x - other.x, to.y - other.y);
      // Two fingers at one point say nothing about a zoom.
      if (before > 0 && after > 0) meaning.zoom((to.x + other.x) / 2, (to.y + other.y) / 2, after / before);
      meaning.pan((to.x - from.x) / 2, (to.y - from.y) / 2);
    } else if (travelled > TAP_PIXELS) meaning.pan(to.x - from.x, to.y - from.y);
  };
  const up = (event: PointerEvent) => {
    if (!pointers.delete(event.pointerId)) return;
    if (event.type === 'pointerup' && pointers.size === 0 && travelled <= TAP_PIXELS) {
      const { x, y } = at(event);
      meaning.tap(x, y);
    }
  };
  const wheel = (event: WheelEvent) => {
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY;
    const { x, y } = at(event);
    meaning.zoom(x, y, Math.exp(-Math.max(-300, Math.min(300, pixels)) * (event.ctrlKey ? 0.01 : 0.0016)));
  };
  const key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = meaning.size();
    const act = actOf(event.key, meaning, width / 2, height / 2);
    if (!act) return;
    event.preventDefault();
    act();
  };
  const leave = () => meaning.leave();

  const ends = [
    heed(element, 'pointerdown', down),
    heed(element, 'pointermove', move),
    heed(element, 'pointerup', up),
    heed(element, 'pointercancel', up),
    heed(element, 'pointerleave', leave),
    heed(element, 'wheel', wheel, { passive: false }),
    heed(element, 'keydown', key),
  ];
  return () => {
    for (const end of ends) end();
  };
}

/** Hear an element's event. Returns what ends it. */
export function heed<Name extends keyof HTMLElementEventMap | 'webglcontextlost' | 'webglcontextrestored'>(
  element: HTMLElement,
  name: Name,
  hear: (event: Name extends keyof HTMLElementEventMap ? HTMLElementEventMap[Name] : Event) => void,
  options?: AddEventListenerOptions,
): () => void {
  element.addEventListener(name, hear as (event: Event) => void, options);
  return () => element.removeEventListener(name, hear as (event: Event) => void);
}

/** What a key means; undefined: nothing. */
function actOf(key: string, meaning: Meaning, x: number, y: number): (() => void) | undefined {
  switch (key) {
    case 'ArrowLeft':
      return () => meaning.pan(KEY_PIXELS, 0);
    case 'ArrowRight':
      return () => meaning.pan(-KEY_PIXELS, 0);
    case 'ArrowUp':
      return () => meaning.pan(0, KEY_PIXELS);
    case 'ArrowDown':
      return () => meaning.pan(0, -KEY_PIXELS);
    case '+':
    case '=':
      return () => meaning.zoom(x, y, KEY_FACTOR);
    case '-':
      return () => meaning.zoom(x, y, 1 / KEY_FACTOR);
    case '0':
      return meaning.fit;
    case 'n':
      return () => meaning.step(1);
    case 'p':
      return () => meaning.step(-1);
    case 'Escape':
      return meaning.escape;
    default:
      return undefined;
  }
}
