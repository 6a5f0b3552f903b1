// A small graph to look at: five circles of friends, 60 tokens and about 120 edges, through the public commands.
import type { NeuroGraphWebSocket } from '@neurograph/client';
import { LEVEL_COUNT } from './wire';

const CIRCLES = ['ember', 'tide', 'grove', 'quartz', 'aurora'];
const PER_CIRCLE = 12;
const EDGES = 120;
const AT_ONCE = 6;

type Point = [number, number, number];

/** Load it. `advance` hears the share that is done, 0 to 1. */
export async function loadDemo(
  ws: Pick<NeuroGraphWebSocket, 'createToken' | 'connectTokens'>,
  advance: (share: number) => void,
): Promise<void> {
  const dice = diceOf(7);
  const ids: string[] = [];
  const total = CIRCLES.length * PER_CIRCLE + EDGES;
  let done = 0;
  const step = () => advance(++done / total);
  await inTurns(CIRCLES.length * PER_CIRCLE, async (index) => {
    const circle = Math.floor(index / PER_CIRCLE);
    const points = Array.from({ length: LEVEL_COUNT }, (_, level) => pointAt(level, index, circle, dice));
    const token = await ws.createToken({
      type: CIRCLES[circle] as string,
      weight: Math.round((0.2 + dice() ** 2) * 100) / 100,
      metadata: { name: `${CIRCLES[circle]} ${(index % PER_CIRCLE) + 1}`, circle: CIRCLES[circle] },
      coord_x: points.map((point) => point[0]),
      coord_y: points.map((point) => point[1]),
      coord_z: points.map((point) => point[2]),
    });
    ids[index] = token.token_id;
    step();
  });
  const pairs = pairsOf(dice);
  await inTurns(pairs.length, async (index) => {
    const [source, target] = pairs[index] as [number, number];
    const near = Math.floor(source / PER_CIRCLE) === Math.floor(target / PER_CIRCLE);
    await ws.connectTokens(ids[source] as string, ids[target] as string, {
      type: near ? 'friend' : 'knows',
      weight: Math.round((near ? 0.5 + dice() / 2 : dice() / 2) * 100) / 100,
    });
    step();
  });
}

function pairsOf(dice: () => number): [number, number][] {
  const seen = new Set<string>();
  const pairs: [number, number][] = [];
  const count = CIRCLES.length * PER_CIRCLE;
  while (pairs.length < EDGES) {
    const source = Math.floor(dice() * count);
    const circle = Math.floor(source / PER_CIRCLE);
    const target = dice() < 0.82 ? circle * PER_CIRCLE + Math.floor(dice() * PER_CIRCLE) : Math.floor(dice() * count);
    const key = `${Math.min(source, target)} ${Math.max(source, target)}`;
    if (source === target || seen.has(key)) continue;
    seen.add(key);
    pairs.push([source, target]);
  }
  return pairs;
}

/** Each level has a shape of its own. */
function pointAt(level: number, index: number, circle: number, dice: () => number): Point {
  const within = (index % PER_CIRCLE) / PER_CIRCLE;
  const turn = within * 2 * Math.PI;
  const around = (circle / CIRCLES.length) * 2 * Math.PI + 0.3;
  const noise = () => (dice() - 0.5) * 0.12;
  const shapes: (() => Point)[] = [
    () => [0.62 * Math.cos(around) + 0.24 * Math.cos(turn), 0.62 * Math.sin(around) + 0.24 * Math.sin(turn), within],
    () => [Math.cos(around + within) * (0.3 + 0.7 * within), Math.sin(around + within) * (0.3 + 0.7 * within), dice()],
    () => [circle / 2 - 1, 2 * within - 1, dice()],
    () => [Math.sin(3 * (turn / 6 + around)), Math.sin(2 * (turn / 6 + around)), within],
    () => [(index / 60) * 2 - 1, Math.sin((index / 60) * 4 * Math.PI) * 0.7, Math.cos((index / 60) * 4 * Math.PI)],
    () => [0.8 * Math.cos(around), 0.8 * Math.sin(around), within],
    () => [(index / 60) * 2 - 1, circle / 2 - 1, within],
    () => [dice() * 2 - 1, dice() * 2 - 1, dice() * 2 - 1],
  ];
  const [x, y, z] = (shapes[level] as () => Point)();
  return [x + noise(), y + noise(), z].map((value) => Math.round(value * 1000) / 1000) as Point;
}

async function inTurns(count: number, act: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < count) await act(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** The same numbers each time: the demo looks the same for everybody. */
function diceOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}
