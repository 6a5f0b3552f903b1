import { expect, test } from 'vitest';
import { Drawing } from '../src/picture/drawing';
import { Pace } from '../src/picture/pace';
import type { Places } from '../src/picture/places';
import type { Look, Scene } from '../src/picture/scene';
import { Edges } from '../src/state/edges';
import { Tokens } from '../src/state/tokens';
import { edgeOf } from './samples';

test('Tries to break: edges that change in every frame are uploaded a few times a second, the last of them too.', () => {
  let uploads = 0;
  const scene = { drawing: false, drawnAt: 0, cost: () => 0, upload() {}, begin() {}, draw() {}, advance() {} };
  const edges = new Edges(new Tokens());
  const drawing = new Drawing(
    { ...scene, uploadEdges: () => void uploads++ } as unknown as Scene,
    { hotAt: () => [], movingUntil: 0, glidingUntil: 0 } as unknown as Places,
    edges,
    new Pace(),
  );
  const look = { now: 1, camera: { x: 0, y: 0, scaleX: 1, scaleY: 1 } } as Look;
  let isDue = false;
  for (let ms = 0; ms < 1000; ms += 16) {
    edges.put(edgeOf(`e${ms}`, 'a', 'b'), ms);
    isDue = drawing.frame(look, ms, false);
  }
  expect(uploads).toBeLessThanOrEqual(4);
  expect(isDue).toBe(true);
  drawing.frame(look, 2000, false);
  drawing.frame(look, 3000, false);
  expect(uploads).toBeLessThanOrEqual(5);
});
