// Fills a server with tokens and edges, and changes them at a rate. On the client of this workspace.
import { createWebSocket } from '@neurograph/client';

const LEVELS = 8;
const AT_ONCE = 200;
const CLUSTERS = 24;
const NEAR_SHARE = 0.93;

/** Numbers that are the same in each run. */
export function diceOf(seed) {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

async function inTurns(count, act) {
  let next = 0;
  const work = async () => {
    while (next < count) await act(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** Roughly normal, from -1 to 1. */
const round = (dice) => (dice() + dice() + dice()) / 1.5 - 1;

function spaceOf(index, dice) {
  const cluster = index % CLUSTERS;
  const axes = { coord_x: [], coord_y: [], coord_z: [] };
  for (let level = 0; level < LEVELS; level++) {
    const turn = (cluster / CLUSTERS) * 2 * Math.PI * (1 + (level % 3)) + level;
    const reach = 0.35 + 0.6 * (((cluster * (level + 3)) % 7) / 7);
    axes.coord_x.push(reach * Math.cos(turn) + 0.2 * round(dice));
    axes.coord_y.push(reach * Math.sin(turn) + 0.2 * round(dice));
    axes.coord_z.push(Math.sin(turn) * 0.6 + 0.4 * round(dice));
  }
  return axes;
}

/** Create `tokens` and `edges`, clusters that hold together. Returns what `stir` needs. */
export async function fill(url, tokens, edges) {
  const ws = createWebSocket({ url });
  await ws.connect();
  const dice = diceOf(11);
  const ids = [];
  await inTurns(tokens, async (index) => {
    const token = await ws.createToken({
      type: `kind ${(index % CLUSTERS) % 6}`,
      weight: dice() ** 4,
      ...spaceOf(index, dice),
    });
    ids[index] = token.token_id;
  });
  const seen = new Set();
  await inTurns(edges, async () => {
    for (;;) {
      const source = Math.floor(dice() * tokens);
      const step = CLUSTERS * (1 + Math.floor(dice() * 30));
      const target = dice() < NEAR_SHARE ? (source + step) % tokens : Math.floor(dice() * tokens);
      const key = `${source} ${target}`;
      if (source === target || seen.has(key)) continue;
      seen.add(key);
      await ws.connectTokens(ids[source], ids[target], { type: 'near', weight: dice() });
      return;
    }
  });
  return { ws, ids, dice };
}

/** Change tokens, `perSecond` events a second for `seconds`: most move, some get another weight. */
export async function stir({ ws, ids, dice }, perSecond, seconds) {
  const begin = performance.now();
  let sent = 0;
  const waiting = new Set();
  while (performance.now() - begin < seconds * 1000) {
    const due = ((performance.now() - begin) / 1000) * perSecond;
    while (sent < due) {
      const index = Math.floor(dice() * ids.length);
      const fields = sent % 4 === 0 ? { weight: dice() ** 4 } : spaceOf(index, dice);
      sent++;
      const reply = ws.updateToken(ids[index], fields).finally(() => waiting.delete(reply));
      waiting.add(reply);
    }
    await new Promise((later) => setTimeout(later, 5));
  }
  await Promise.all(waiting);
  return sent;
}
