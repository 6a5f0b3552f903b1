import { type FormEvent, useEffect, useRef, useState } from 'react';
import { emptyDraft, type Faults, read } from '../forms/draft';
import { faultsOfError } from '../forms/send';
import { Fields } from './Fields';
import { useMonitor, useSummary } from './hooks';
import type { AskForPlace } from './Inspector';

interface Props {
  level: number;
  placing: boolean;
  askForPlace: AskForPlace;
  onCreated: (id: string) => void;
}

export function Create({ level, placing, askForPlace, onCreated }: Props) {
  const monitor = useMonitor();
  const { state } = useSummary();
  const [draft, setDraft] = useState(emptyDraft);
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  const place = usePlace(level, placing, askForPlace, (x, y) =>
    setDraft((now) => ({ ...now, x: now.x.with(level, x), y: now.y.with(level, y) })),
  );
  const create = async (event: FormEvent) => {
    event.preventDefault();
    const { fields, faults: found } = read(draft);
    setFaults(found ?? {});
    if (!fields) return;
    setBusy(true);
    try {
      const { token_id } = await monitor.ws.createToken(fields);
      askForPlace(null);
      onCreated(token_id);
    } catch (error) {
      setFaults(faultsOfError(error));
    }
    setBusy(false);
  };
  return (
    <form className="token-form" aria-label="Create a token" onSubmit={(event) => void create(event)}>
      <Fields draft={draft} faults={faults} level={level} placing={placing} onDraft={setDraft} onPlace={place} />
      {faults.form && (
        <p className="fault" role="alert">
          {faults.form}
        </p>
      )}
      <button type="submit" className="main-act" disabled={busy}>
        {busy ? 'Creating…' : 'Create token'}
      </button>
      {state !== 'connected' && <p className="aside">Not connected: it will be sent when the connection is back.</p>}
    </form>
  );
}

/** Toggles the asking for a point of the picture; whoever goes away asks no longer. */
export function usePlace(
  level: number,
  placing: boolean,
  askForPlace: AskForPlace,
  hear: (x: string, y: string) => void,
): () => void {
  const heard = useRef(hear);
  heard.current = hear;
  useEffect(() => () => askForPlace(null), [askForPlace]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a point of another level is none of this one's
  useEffect(() => askForPlace(null), [level, askForPlace]);
  const text = (value: number) => String(Number(value.toPrecision(5)));
  return () =>
    askForPlace(
      placing
        ? null
        : (x, y) => {
            heard.current(text(x), text(y));
            askForPlace(null);
          },
    );
}
