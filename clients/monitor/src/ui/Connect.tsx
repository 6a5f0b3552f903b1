import { type FormEvent, useState } from 'react';
import { type Faults, faultOfNumber, numberOf } from '../forms/draft';
import { faultsOfError } from '../forms/send';
import { Fault } from './Fault';
import { Field } from './Fields';
import { useKept, useMonitor } from './hooks';
import type { Connecting } from './Inspector';

/** Connects the token that was chosen first to the one that was clicked then. */
export function Connect({ connecting }: { connecting: Connecting }) {
  const monitor = useMonitor();
  const { from, to } = connecting;
  const [type, setType] = useKept('connect type', () => 'generic');
  const [weight, setWeight] = useKept('connect weight', () => '1');
  const [both, setBoth] = useKept('connect both', () => false);
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  if (!from) return null;
  if (!to) {
    return (
      <p className="connect-ask" role="status">
        Choose the other token: click it in the picture, or under Find.{' '}
        <button type="button" className="quiet" onClick={connecting.end}>
          Cancel
        </button>
      </p>
    );
  }
  const connect = async (event: FormEvent) => {
    event.preventDefault();
    const number = numberOf(weight);
    if (number === null) return setFaults({ weight: faultOfNumber(weight) });
    setBusy(true);
    try {
      await monitor.ws.connectTokens(from, to, { type, weight: number, bidirectional: both });
      connecting.end();
    } catch (error) {
      setFaults(faultsOfError(error));
    }
    setBusy(false);
  };
  return (
    <form className="token-form connect" aria-label="Connect two tokens" onSubmit={(event) => void connect(event)}>
      <p className="pair">
        <b>{monitor.tokens.nameOf(from)}</b> {both ? '↔' : '→'} <b>{monitor.tokens.nameOf(to)}</b>
      </p>
      <div className="field-row">
        <Field label="Type" fault={faults.type}>
          {(attributes) => <input {...attributes} value={type} onChange={(event) => setType(event.target.value)} />}
        </Field>
        <Field label="Weight" fault={faults.weight}>
          {(attributes) => (
            <input
              {...attributes}
              inputMode="decimal"
              value={weight}
              onChange={(event) => setWeight(event.target.value)}
            />
          )}
        </Field>
      </div>
      <label className="check">
        <input type="checkbox" checked={both} onChange={(event) => setBoth(event.target.checked)} />
        in both directions
      </label>
      <Fault>{faults.form}</Fault>
      <div className="acts">
        <button type="submit" className="main-act" disabled={busy}>
          {busy ? 'Connecting…' : 'Connect'}
        </button>
        <button type="button" onClick={connecting.end}>
          Cancel
        </button>
      </div>
    </form>
  );
}
