// What the selected token says of itself, and what can be done with it.
import { useContext, useEffect, useState } from 'react';
import { faultsOfError } from '../forms/send';
import { shortId } from '../state/tokens';
import { LEVELS, type Token as WireToken } from '../wire';
import { Change, keptFor } from './Change';
import { Confirm } from './Confirm';
import { Connect } from './Connect';
import { Fault } from './Fault';
import { count, moment, short } from './format';
import { KeptContext, useMonitor, useSummary } from './hooks';
import { Icon } from './Icon';
import type { AskForPlace, Connecting } from './Inspector';
import { Neighbors } from './Neighbors';
import { Overview } from './Overview';

interface Props {
  id: string | null;
  level: number;
  onSelect: (id: string | null) => void;
  connecting: Connecting;
  placing: boolean;
  askForPlace: AskForPlace;
}

export function Token({ id, ...rest }: Props) {
  return id ? <Selected id={id} {...rest} /> : <Overview onSelect={rest.onSelect} />;
}

function Selected({ id, level, onSelect, connecting, placing, askForPlace }: Props & { id: string }) {
  const monitor = useMonitor();
  const { token, gone, fault } = useToken(id);
  const kept = useContext(KeptContext);
  const [changing, setChanging] = useState(() => kept.has(keptFor(id)));
  const [deleting, setDeleting] = useState(false);
  const [failed, setFailed] = useState('');
  if (gone && !(changing && token)) return <Gone id={id} onSelect={onSelect} />;
  if (!token) return <p className="empty">{fault || 'Asking…'}</p>;
  const name = monitor.tokens.faces[monitor.tokens.slotOf(id)]?.label || token.type;
  const remove = async () => {
    setDeleting(false);
    try {
      await monitor.ws.deleteToken(id);
      onSelect(null);
    } catch (error) {
      setFailed(faultsOfError(error).form ?? 'It was not deleted.');
    }
  };
  return (
    <article className="token" aria-labelledby="token-name">
      <header className="token-head">
        <h2 id="token-name">{name}</h2>
        <button type="button" className="quiet tiny" aria-label="Let go of the token" onClick={() => onSelect(null)}>
          <Icon name="close" />
        </button>
        <p className="id" title={id}>
          {id}
        </p>
      </header>
      {!changing && (
        <div className="acts">
          <button type="button" onClick={() => setChanging(true)}>
            <Icon name="edit" /> Change
          </button>
          <button type="button" aria-pressed={connecting.from === id} onClick={() => connecting.begin(id)}>
            <Icon name="link" /> Connect
          </button>
          <button type="button" className="danger" onClick={() => setDeleting(true)}>
            <Icon name="bin" /> Delete
          </button>
        </div>
      )}
      <Fault>{failed}</Fault>
      <Fault>{fault && `It could not be read anew: ${fault}`}</Fault>
      <Connect connecting={connecting} />
      {changing ? (
        <Change {...{ token, gone, level, placing, askForPlace }} onDone={() => setChanging(false)} />
      ) : (
        <>
          <Face token={token} degree={monitor.edges.degree(id)} />
          <Space token={token} level={level} />
          <Neighbors id={id} onSelect={onSelect} />
          <h3>Metadata</h3>
          <pre className="json">{JSON.stringify(token.metadata, null, 2)}</pre>
        </>
      )}
      {deleting && (
        <Confirm
          question={`Delete ${name}?`}
          consequence={`Its ${count(monitor.edges.degree(id))} edges go with it. This can’t be undone.`}
          act="Delete"
          onAct={() => void remove()}
          onCancel={() => setDeleting(false)}
        />
      )}
    </article>
  );
}

function Gone({ id, onSelect }: { id: string; onSelect: (id: string | null) => void }) {
  return (
    <div className="empty">
      <p>The token {shortId(id)} is gone.</p>
      <button type="button" onClick={() => onSelect(null)}>
        Let go of it
      </button>
    </div>
  );
}

function Face({ token, degree }: { token: WireToken; degree: number }) {
  const rows: [string, string][] = [
    ['type', token.type],
    ['weight', short(token.weight)],
    ['flags', token.flags === 0 ? '0' : `${token.flags} (0x${token.flags.toString(16)})`],
    ['edges', count(degree)],
    ['version', count(token.version)],
    ['created', moment(token.created_at)],
    ['changed', token.version === 1 ? 'never' : moment(token.updated_at)],
  ];
  return (
    <dl className="face">
      {rows.map(([term, value]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Space({ token, level }: { token: WireToken; level: number }) {
  const { x, y, z } = token.coordinates;
  return (
    <table className="space">
      <caption>Coordinates</caption>
      <thead>
        <tr>
          <th scope="col">level</th>
          <th scope="col">x</th>
          <th scope="col">y</th>
          <th scope="col">z</th>
        </tr>
      </thead>
      <tbody>
        {LEVELS.map((name, index) => (
          <tr key={name} data-on={index === level}>
            <th scope="row">{name}</th>
            <td>{short(x[index] ?? 0)}</td>
            <td>{short(y[index] ?? 0)}</td>
            <td>{short(z[index] ?? 0)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The whole token, asked for again when it changed; and its edges, which may not be here yet. */
function useToken(id: string): { token: WireToken | null; gone: boolean; fault: string } {
  const monitor = useMonitor();
  useSummary();
  const [token, setToken] = useState<WireToken | null>(null);
  const [missing, setMissing] = useState(false);
  const [fault, setFault] = useState('');
  const slot = monitor.tokens.slotOf(id);
  const version = monitor.tokens.faces[slot]?.version ?? 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another version is another answer
  useEffect(() => {
    let current = true;
    const ask = async () => {
      try {
        const answer = await monitor.ws.getToken(id);
        if (!current) return;
        setMissing(answer === null);
        setFault('');
        if (answer) setToken(answer);
      } catch (error) {
        if (current) setFault(faultsOfError(error).form ?? '');
      }
    };
    void ask();
    return () => {
      current = false;
    };
  }, [monitor, id, version]);
  useEffect(() => {
    const ask = async () => {
      const { neighbors, position } = await monitor.ws.getNeighbors(id, { limit: 1000 });
      monitor.load.neighbors(neighbors, position.seq);
    };
    ask().catch(() => {});
  }, [monitor, id]);
  // A token may be missing here only because the page holds no more; then the server's answer counts.
  const whole = monitor.load.loading.tokens === 'done' && !monitor.load.loading.capped && monitor.tokens.evicted === 0;
  return { token, gone: missing || (token !== null && slot < 0 && whole), fault };
}
