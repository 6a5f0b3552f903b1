import { type FormEvent, useState } from 'react';
import { changesOf, type Draft, draftOf, type Faults, read, rebased } from '../forms/draft';
import { faultsOfError, isConflict } from '../forms/send';
import type { Token } from '../wire';
import { usePlace } from './Create';
import { Fault } from './Fault';
import { Fields } from './Fields';
import { useKept, useMonitor } from './hooks';
import type { AskForPlace } from './Inspector';

const DELETED = 'Somebody deleted this token meanwhile. What you typed is still here, to be copied.';

interface Props {
  token: Token;
  /** Somebody deleted it while this form was open. */
  gone: boolean;
  level: number;
  placing: boolean;
  askForPlace: AskForPlace;
  onDone: () => void;
}

/** The name of what a form that changes a token keeps. */
export const keptFor = (id: string) => `change ${id}`;

/** Changes what differs, and only if nobody else changed the token since this form was filled. */
export function Change({ token, gone, level, placing, askForPlace, onDone: onClosed }: Props) {
  const monitor = useMonitor();
  const [form, setForm, forget] = useKept(keptFor(token.token_id), () => ({ base: token, draft: draftOf(token) }));
  const { base, draft } = form;
  const [faults, setFaults] = useState<Faults>({});
  /** The token as somebody else left it, by the server's refusal or by an event. */
  const [told, setTold] = useState<Token | null>(null);
  const newer = [told, token].find((one) => one && one.version > base.version) ?? null;
  const [busy, setBusy] = useState(false);
  const setDraft = (change: (draft: Draft) => Draft) => setForm(({ base, draft }) => ({ base, draft: change(draft) }));
  const onDone = () => {
    forget();
    onClosed();
  };
  const place = usePlace(level, placing, askForPlace, setDraft);
  // The refusal may be here before the event, so that `token` may still be the old one.
  const askForNewer = async () => {
    try {
      const found = await monitor.ws.getToken(token.token_id);
      setTold(found);
      setFaults(found ? {} : { form: DELETED });
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
      setTold(null);
      if (isConflict(error)) await askForNewer();
      else setFaults(faultsOfError(error));
    }
    setBusy(false);
  };
  return (
    <form className="token-form" aria-label="Change the token" onSubmit={(event) => void change(event)}>
      <Fields
        draft={draft}
        faults={faults}
        level={level}
        placing={placing}
        onDraft={(next) => setDraft(() => next)}
        onPlace={place}
      />
      {newer && !gone && (
        <Fault>
          Somebody changed this token meanwhile: it is at version {newer.version}, this form at {base.version}.{' '}
          <button
            type="button"
            className="quiet"
            onClick={() => {
              setForm({ base: newer, draft: rebased(draft, base, newer) });
            }}
          >
            Keep what I typed, take the rest from there
          </button>
        </Fault>
      )}
      <Fault>{gone ? DELETED : faults.form}</Fault>
      <div className="acts">
        <button type="submit" className="main-act" disabled={busy || gone}>
          {busy ? 'Saving…' : 'Save changes'}
        </button>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
      </div>
    </form>
  );
}
