// The server wants to know who this is. What is typed is in no address and no element but its field.
import { type FormEvent, useEffect, useRef, useState } from 'react';
import { faultsOfError } from '../forms/send';
import { tokenIn } from '../state/keeper';
import type { Asking } from '../state/monitor';
import { Fault } from './Fault';
import { useMonitor } from './hooks';

const TITLES: Record<Asking, string> = {
  first: 'This server asks for a token',
  refused: 'The token was refused',
  expired: 'Your token has expired',
  renew: 'A new token',
};

const REASONS: Record<Asking, string> = {
  first: 'Paste the access token that you were given. It says who you are and what you may do.',
  refused: 'It is not valid, or has expired. Paste another one.',
  expired: 'What is shown is as it was then. With a new token it goes on from there, and nothing is missed.',
  renew: 'It takes the place of the one that is in use. The connection goes on.',
};

export function TokenAsked({ asking, signing }: { asking: Asking; signing: boolean }) {
  const monitor = useMonitor();
  const field = useRef<HTMLInputElement>(null);
  const [fault, setFault] = useState('');
  useFocus(field, asking);
  const signIn = async (event: FormEvent) => {
    event.preventDefault();
    const token = tokenIn(field.current?.value ?? '');
    setFault(token === '' ? 'There is no token in the field.' : '');
    if (token === '') return;
    try {
      await monitor.signIn(token);
    } catch (error) {
      setFault(faultsOfError(error).form ?? 'It was not taken.');
    }
    if (field.current) field.current.value = '';
  };
  const wrong = asking === 'refused' && !signing;
  return (
    <form className="asked" data-asking={asking} aria-labelledby="asked-title" onSubmit={(event) => void signIn(event)}>
      <div role={asking === 'renew' ? undefined : 'alert'}>
        <h2 id="asked-title">{TITLES[asking]}</h2>
        <p id="asked-reason">{REASONS[asking]}</p>
      </div>
      <label htmlFor="access-token">Access token</label>
      <input
        id="access-token"
        ref={field}
        type="password"
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        aria-describedby={fault ? 'asked-fault' : 'asked-reason'}
        aria-invalid={wrong || fault !== ''}
      />
      <Fault id="asked-fault">{fault}</Fault>
      <p className="acts">
        <button type="submit" className="main-act">
          {signing ? 'Signing in…' : asking === 'renew' ? 'Renew' : 'Sign in'}
        </button>
        {asking === 'renew' && (
          <button type="button" onClick={() => monitor.askToRenew(false)}>
            Cancel
          </button>
        )}
      </p>
    </form>
  );
}

/** Bring the focus to the field, but out of no other one that is typed into; and back to who one is when it goes. */
function useFocus(field: { current: HTMLInputElement | null }, asking: Asking): void {
  useEffect(() => {
    const { activeElement } = document;
    const typing = activeElement?.matches('input:not([type=radio]), textarea, select') === true;
    if (asking !== 'expired' || !typing) field.current?.focus();
  }, [field, asking]);
  useEffect(() => {
    const form = field.current?.form;
    return () => {
      if (!form?.contains(document.activeElement) && document.activeElement !== document.body) return;
      setTimeout(() => document.querySelector<HTMLElement>('.who summary')?.focus());
    };
  }, [field]);
}
