// What there is to see while no token is selected: which types there are, and the tokens that hold it together.
import { useMemo } from 'react';
import type { TokenFace } from '../state/tokens';
import { count } from './format';
import { useMonitor, useSummary } from './hooks';

const TYPES = 8;
const HUBS = 10;

export function Overview({ onSelect }: { onSelect: (id: string) => void }) {
  const monitor = useMonitor();
  const { tokens, edges } = useSummary();
  const { types, kinds, hubs } = useOverview();
  return (
    <div className="overview">
      <p className="aside">No token is selected. Click one in the picture, or choose one under Find.</p>
      {tokens > 0 && (
        <>
          <h3>
            Types <small>{count(kinds)}</small>
          </h3>
          <ul className="bars-list">
            {types.map(([type, many]) => (
              <li key={type}>
                <span className="name">{type}</span>
                <span className="number">{count(many)}</span>
                <progress max={tokens} value={many} aria-label={`Share of ${type}`} />
              </li>
            ))}
          </ul>
        </>
      )}
      {hubs.length > 0 && (
        <>
          <h3>
            Most connected <small>{(edges === 0 ? 0 : (2 * edges) / tokens).toFixed(1)} edges a token</small>
          </h3>
          <ol className="hubs">
            {hubs.map(({ face, degree }) => (
              <li key={face.id}>
                <button type="button" className="link" title={face.id} onClick={() => onSelect(face.id)}>
                  {monitor.tokens.nameOf(face.id)}
                </button>
                <span className="kind">{face.type}</span>
                <span className="number">{count(degree)}</span>
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

function useOverview() {
  const { tokens, edges } = useMonitor();
  const { tokensRevision, edgesRevision } = useSummary();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the revisions are what says that the stores changed
  return useMemo(() => {
    const many = new Map<string, number>();
    const hubs: { face: TokenFace; degree: number }[] = [];
    let least = 1;
    for (const face of tokens.faces) {
      if (!face) continue;
      many.set(face.type, (many.get(face.type) ?? 0) + 1);
      const degree = edges.degree(face.id);
      if (degree < least) continue;
      hubs.push({ face, degree });
      if (hubs.length < 8 * HUBS) continue;
      // Now and then only the best are kept, so that no list of all is sorted.
      hubs.sort((a, b) => b.degree - a.degree);
      hubs.length = HUBS;
      least = hubs.at(-1)?.degree ?? 1;
    }
    hubs.sort((a, b) => b.degree - a.degree);
    const types = [...many].sort((a, b) => b[1] - a[1]);
    return { types: types.slice(0, TYPES), kinds: types.length, hubs: hubs.slice(0, HUBS) };
  }, [tokens, edges, tokensRevision, edgesRevision]);
}
