import { useEffect, useRef } from 'react';

interface Props {
  question: string;
  consequence: string;
  act: string;
  onAct: () => void;
  onCancel: () => void;
}

/** Asks before what can't be undone. */
export function Confirm({ question, consequence, act, onAct, onCancel }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal?.(), []);
  return (
    <dialog ref={dialog} className="confirm" aria-labelledby="confirm-title" onClose={onCancel}>
      <h3 id="confirm-title">{question}</h3>
      <p>{consequence}</p>
      <div className="acts">
        <button type="button" className="danger" onClick={onAct}>
          {act}
        </button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}
