import { useState } from 'react';
import { faultsOfError } from '../forms/send';
import type { EdgeFace } from '../state/edges';
import { Confirm } from './Confirm';
import { Fault } from './Fault';
import { count, short } from './format';
import { useMonitor, useSummary } from './hooks';
import { Icon } from './Icon';

const SHOWN = 60;

export function Neighbors({ id, onSelect }: { id: string; onSelect: (id: string) => void }) {
  const monitor = useMonitor();
  useSummary();
  const [cutting, setCutting] = useState<EdgeFace | null>(null);
  const [fault, setFault] = useState('');
  const edges = monitor.edges.at(id).sort((a, b) => b.weight - a.weight);
  const name = (other: string) => monitor.tokens.nameOf(other);
  const otherOf = (edge: EdgeFace) => (edge.source === id ? edge.target : edge.source);
  const cut = async (edge: EdgeFace) => {
    setCutting(null);
    try {
      await monitor.ws.disconnectTokens({ connection_id: edge.id });
      setFault('');
    } catch (error) {
      setFault(faultsOfError(error).form ?? 'It was not disconnected.');
    }
  };
  return (
    <section className="neighbors" aria-labelledby="neighbors-title">
      <h3 id="neighbors-title">
        Neighbours <small>{count(edges.length)}</small>
      </h3>
      {edges.length === 0 && <p className="aside">Connected to nothing.</p>}
      <ul>
        {edges.slice(0, SHOWN).map((edge) => (
          <li key={edge.id}>
            <span className="way" title={wayOf(edge, id)}>
              <span aria-hidden="true">{edge.bidirectional ? '↔' : edge.source === id ? '→' : '←'}</span>
              <span className="unseen">{wayOf(edge, id)}</span>
            </span>
            <button type="button" className="link" onClick={() => onSelect(otherOf(edge))}>
              {name(otherOf(edge))}
            </button>
            <span className="kind">{edge.type}</span>
            <span className="number">{short(edge.weight)}</span>
            <button
              type="button"
              className="quiet tiny"
              aria-label={`Disconnect ${name(otherOf(edge))}`}
              onClick={() => setCutting(edge)}
            >
              <Icon name="close" />
            </button>
          </li>
        ))}
      </ul>
      {edges.length > SHOWN && <p className="aside">and {count(edges.length - SHOWN)} more, of less weight</p>}
      <Fault>{fault}</Fault>
      {cutting && (
        <Confirm
          question={`Disconnect ${name(otherOf(cutting))}?`}
          consequence={`The edge “${cutting.type}” between them is removed.`}
          act="Disconnect"
          onAct={() => void cut(cutting)}
          onCancel={() => setCutting(null)}
        />
      )}
    </section>
  );
}

function wayOf(edge: EdgeFace, id: string): string {
  if (edge.bidirectional) return 'both ways';
  return edge.source === id ? 'outgoing' : 'incoming';
}
