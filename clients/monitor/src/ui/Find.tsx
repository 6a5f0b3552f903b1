// The tokens as a table: what the picture shows, for eyes and for screen readers.
import { useMemo, useState } from 'react';
import type { TokenFace } from '../state/tokens';
import { count, short } from './format';
import { useMonitor, useSummary } from './hooks';

const ROWS = 100;
const ORDERS = ['newest', 'heaviest', 'most connected'] as const;
type Order = (typeof ORDERS)[number];

export function Find({ selected, onSelect }: { selected: string | null; onSelect: (id: string) => void }) {
  const { tokens, tokensRevision, edgesRevision } = useSummary();
  const [text, setText] = useState('');
  const [order, setOrder] = useState<Order>('newest');
  const found = useFound(text, order, tokensRevision, edgesRevision);
  const { edges, tokens: store } = useMonitor();
  return (
    <div className="find">
      <div className="find-bar">
        <input
          type="search"
          aria-label="Find tokens by name, type or id"
          placeholder="Name, type or id"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <select aria-label="Order" value={order} onChange={(event) => setOrder(event.target.value as Order)}>
          {ORDERS.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </div>
      <p className="aside">
        {found.total > ROWS ? `${ROWS} of ${count(found.total)}` : count(found.total)}
        {text === '' ? '' : ` found among ${count(tokens)}`}
      </p>
      <table>
        <caption className="unseen">Tokens, {order} first</caption>
        <thead>
          <tr>
            <th scope="col">Token</th>
            <th scope="col">Type</th>
            <th scope="col" className="number">
              Weight
            </th>
            <th scope="col" className="number">
              Edges
            </th>
          </tr>
        </thead>
        <tbody>
          {found.faces.map((face) => (
            <tr key={face.id} data-on={face.id === selected}>
              <th scope="row">
                <button
                  type="button"
                  className={store.nameOf(face.id) === face.id ? 'link whole' : 'link'}
                  aria-pressed={face.id === selected}
                  title={face.id}
                  onClick={() => onSelect(face.id)}
                >
                  {store.nameOf(face.id)}
                </button>
              </th>
              <td>{face.type}</td>
              <td className="number">{short(store.weights[store.slotOf(face.id)] ?? 0)}</td>
              <td className="number">{edges.degree(face.id)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function useFound(text: string, order: Order, tokensRevision: number, edgesRevision: number) {
  const { tokens, edges } = useMonitor();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the revisions are what says that the stores changed
  return useMemo(() => {
    const needle = text.trim().toLowerCase();
    const passes = (face: TokenFace) =>
      needle === '' ||
      face.label.toLowerCase().includes(needle) ||
      face.type.toLowerCase().includes(needle) ||
      face.id.includes(needle);
    const faces = tokens.faces.filter((face): face is TokenFace => face !== null && passes(face));
    const weight = (face: TokenFace) => tokens.weights[tokens.slotOf(face.id)] ?? 0;
    if (order === 'newest') faces.sort((a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : 0));
    else if (order === 'heaviest') faces.sort((a, b) => weight(b) - weight(a));
    else faces.sort((a, b) => edges.degree(b.id) - edges.degree(a.id));
    return { total: faces.length, faces: faces.slice(0, ROWS) };
  }, [tokens, edges, text, order, tokensRevision, edgesRevision]);
}
