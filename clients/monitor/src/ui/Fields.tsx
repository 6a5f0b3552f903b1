// The fields that creating and changing a token share.
import { type ReactNode, useId } from 'react';
import { AXES, type Draft, type Faults } from '../forms/draft';
import { LEVELS } from '../wire';
import { Fault } from './Fault';
import { Icon } from './Icon';

interface FieldProps {
  label: string;
  fault: string | undefined;
  children: (attributes: { id: string; 'aria-invalid': boolean; 'aria-describedby': string | undefined }) => ReactNode;
}

export function Field({ label, fault, children }: FieldProps) {
  const id = useId();
  return (
    <div className="field" data-fault={fault !== undefined}>
      <label htmlFor={id}>{label}</label>
      {children({ id, 'aria-invalid': fault !== undefined, 'aria-describedby': fault ? `${id}-fault` : undefined })}
      <Fault id={`${id}-fault`}>{fault}</Fault>
    </div>
  );
}

interface FieldsProps {
  draft: Draft;
  faults: Faults;
  level: number;
  placing: boolean;
  onDraft: (draft: Draft) => void;
  /** Asks for a point of the picture, or no longer. */
  onPlace: () => void;
}

export function Fields({ draft, faults, level, placing, onDraft, onPlace }: FieldsProps) {
  const set = (part: Partial<Draft>) => onDraft({ ...draft, ...part });
  return (
    <>
      <div className="field-row">
        <Field label="Type" fault={faults.type}>
          {(attributes) => (
            <input {...attributes} value={draft.type} onChange={(event) => set({ type: event.target.value })} />
          )}
        </Field>
        <Field label="Weight" fault={faults.weight}>
          {(attributes) => (
            <input
              {...attributes}
              inputMode="decimal"
              value={draft.weight}
              onChange={(event) => set({ weight: event.target.value })}
            />
          )}
        </Field>
        <Field label="Flags" fault={faults.flags}>
          {(attributes) => (
            <input
              {...attributes}
              inputMode="numeric"
              value={draft.flags}
              onChange={(event) => set({ flags: event.target.value })}
            />
          )}
        </Field>
      </div>
      <Coordinates {...{ draft, faults, level, placing, onDraft, onPlace }} />
      <Field label="Metadata (JSON)" fault={faults.metadata}>
        {(attributes) => (
          <textarea
            {...attributes}
            rows={4}
            spellCheck={false}
            value={draft.metadata}
            onChange={(event) => set({ metadata: event.target.value })}
          />
        )}
      </Field>
    </>
  );
}

function Coordinates({ draft, faults, level, placing, onDraft, onPlace }: FieldsProps) {
  const others = LEVELS.map((_, index) => index).filter((index) => index !== level);
  return (
    <fieldset className="coordinates" data-fault={faults.coordinates !== undefined}>
      <legend>Coordinates</legend>
      <div className="coordinates-row head-row" aria-hidden="true">
        <span />
        {AXES.map((axis) => (
          <span key={axis}>{axis}</span>
        ))}
      </div>
      <CoordinatesRow index={level} draft={draft} onDraft={onDraft} />
      <button type="button" className="quiet place" aria-pressed={placing} onClick={onPlace}>
        <Icon name="target" />
        {placing ? 'Click in the picture…' : 'Take x and y from the picture'}
      </button>
      <details>
        <summary>The other seven levels</summary>
        {others.map((index) => (
          <CoordinatesRow key={index} index={index} draft={draft} onDraft={onDraft} />
        ))}
      </details>
      <Fault>{faults.coordinates}</Fault>
    </fieldset>
  );
}

interface RowProps {
  index: number;
  draft: Draft;
  onDraft: (draft: Draft) => void;
}

function CoordinatesRow({ index, draft, onDraft }: RowProps) {
  return (
    <div className="coordinates-row">
      <span>{LEVELS[index]}</span>
      {AXES.map((axis) => (
        <input
          key={axis}
          aria-label={`${LEVELS[index]} ${axis}`}
          inputMode="decimal"
          value={draft[axis][index]}
          onChange={(event) => onDraft({ ...draft, [axis]: draft[axis].with(index, event.target.value) })}
        />
      ))}
    </div>
  );
}
