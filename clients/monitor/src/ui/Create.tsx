import { type FormEvent, useEffect, useState } from 'react';
import { type Draft, emptyDraft, type Faults, read } from '../forms/draft';
import { faultsOfError } from '../forms/send';
import { Fault } from './Fault';
import { Fields } from './Fields';
import { useKept, useMonitor, useSummary } from './hooks';
import type { AskForPlace } from './Inspector';

interface Props {
  level: number;
  placing: boolean;
  askForPlace: AskForPlace;
  onCreated: (id: string) => void;
}

export function Create({ level, placing, askForPlace, onCreated }: Props) {
  const monitor = useMonitor();
  const { state, asking } = useSummary();
  const [draft, setDraft, forget] = useKept('new', emptyDraft);
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  const place = usePlace(level, placing, askForPlace, setDraft);
  const create = async (event: FormEvent) => {
    event.preventDefault();
    const { fields, faults: found } = read(draft);
    setFaults(found ?? {});
    if (!fields) return;
    setBusy(true);
    try {
      const { token_id } = await monitor.ws.createToken(fields);
      askForPlace(null);
      forget();
      onCreated(token_id);
    } catch (error) {
      setFaults(faultsOfError(error));
    }
    setBusy(false);
  };
  return (
    <form className="token-form" aria-label="Create a token" onSubmit={(event) => void create(event)}>
      <Fields draft={draft} faults={faults} level={level} placing={placing} onDraft={setDraft} onPlace={place} />
      <Fault>{faults.form}</Fault>
      <button type="submit" className="main-act" disabled={busy}>
        {busy ? 'Creating…' : 'Create token'}
      </button>
      {state !== 'connected' && asking === null && (
        <p className="aside">Not connected: it will be sent when the connection is back.</p>
      )}
    </form>
  );
}

/** Toggles the asking for a point of the picture at this level; whoever goes away, or to another one, asks no longer. */
export function usePlace(
  level: number,
  placing: boolean,
  askForPlace: AskForPlace,
  onDraft: (change: (draft: Draft) => Draft) => void,
): () => void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: a point of another level is none of this one's
  useEffect(() => () => askForPlace(null), [level, askForPlace]);
  const text = (value: number) => String(Number(value.toPrecision(5)));
  const place = (x: number, y: number) => {
    onDraft((draft) => ({ ...draft, x: draft.x.with(level, text(x)), y: draft.y.with(level, text(y)) }));
    askForPlace(null);
  };
  return () => askForPlace(placing ? null : place);
}
