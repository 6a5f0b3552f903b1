import { type FormEvent, useState } from 'react';
import { changesOf, draftOf, type Faults, read, rebased } from '../forms/draft';
import { faultsOfError, isConflict } from '../forms/send';
import type { Token } from '../wire';
import { usePlace } from './Create';
import { Fault } from './Fault';
import { Fields } from './Fields';
import { useMonitor } from './hooks';
import type { AskForPlace } from './Inspector';

interface Props {
  token: Token;
  level: number;
  placing: boolean;
  askForPlace: AskForPlace;
  onDone: () => void;
}

/** Changes what differs, and only if nobody else changed the token since this form was filled. */
export function Change({ token, level, placing, askForPlace, onDone }: Props) {
  const monitor = useMonitor();
  const [base, setBase] = useState(token);
  const [draft, setDraft] = useState(() => draftOf(token));
  const [faults, setFaults] = useState<Faults>({});
  /** The token as somebody else left it. */
  const [newer, setNewer] = useState<Token | null>(null);
  const [busy, setBusy] = useState(false);
  const place = usePlace(level, placing, askForPlace, setDraft);
  // The refusal may be here before the event, so that `token` may still be the old one.
  const askForNewer = async () => {
    try {
      const found = await monitor.ws.getToken(token.token_id);
      setNewer(found);
      setFaults(found ? {} : { form: 'Somebody deleted this token meanwhile.' });
    } catch (error) {
      setFaults(faultsOfError(error));
    }
  };
  const change = async (event: FormEvent) => {
    event.preventDefault();
    const { fields, faults: found } = read(draft);
    setFaults(found ?? {});
    if (!fields) return;
    const changes = changesOf(fields, base);
    if (Object.keys(changes).length === 0) return onDone();
    setBusy(true);
    try {
      await monitor.ws.updateToken(token.token_id, { ...changes, if_version: base.version });
      onDone();
    } catch (error) {
      setNewer(null);
      if (isConflict(error)) await askForNewer();
      else setFaults(faultsOfError(error));
    }
    setBusy(false);
  };
  return (
    <form className="token-form" aria-label="Change the token" onSubmit={(event) => void change(event)}>
      <Fields draft={draft} faults={faults} level={level} placing={placing} onDraft={setDraft} onPlace={place} />
      {newer && (
        <Fault>
          Somebody changed this token meanwhile: it is at version {newer.version}, this form at {base.version}.{' '}
          <button
            type="button"
            className="quiet"
            onClick={() => {
              setBase(newer);
              setDraft(rebased(draft, base, newer));
              setNewer(null);
            }}
          >
            Keep what I typed, take the rest from there
          </button>
        </Fault>
      )}
      <Fault>{faults.form}</Fault>
      <div className="acts">
        <button type="submit" className="main-act" disabled={busy}>
          {busy ? 'Saving…' : 'Save changes'}
        </button>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
      </div>
    </form>
  );
}
