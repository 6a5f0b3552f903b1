import { type RefObject, useEffect, useRef, useState } from 'react';
import { loadDemo } from '../demo';
import { faultsOfError } from '../forms/send';
import { PAINTS } from '../picture/colour';
import { Picture as Engine, type Note, type PictureEvents } from '../picture/picture';
import type { ShadeBy, SizeBy } from '../picture/places';
import type { Denied } from '../state/load';
import { LEVELS } from '../wire';
import type { Chosen } from './Board';
import { Fault } from './Fault';
import { count, short } from './format';
import { useMedia, useMonitor, useSummary } from './hooks';
import { Icon } from './Icon';

interface Props {
  engine: RefObject<Engine | null>;
  theme: 'light' | 'dark';
  chosen: Chosen;
  onChosen: (chosen: Chosen) => void;
  selected: string | null;
  onSelect: (id: string | null) => void;
  place: ((x: number, y: number) => void) | null;
  hint: string | null;
  onCancel: () => void;
}

const LOST =
  'The browser took the graphics away: the picture is back when it gives them back. The list of tokens has all of it.';

export function Picture({ engine, theme, chosen, onChosen, selected, onSelect, place, hint, onCancel }: Props) {
  const monitor = useMonitor();
  const summary = useSummary();
  const calm = useMedia('(prefers-reduced-motion: reduce)');
  const canvas = useRef<HTMLCanvasElement>(null);
  const host = useRef<HTMLDivElement>(null);
  const labels = useRef<HTMLDivElement>(null);
  const [note, setNote] = useState<Note>({
    coincidence: { all: false, atOrigin: 0 },
    outliers: 0,
    zRange: [0, 0],
  });
  const [refusal, setRefusal] = useState<string | null>(null);
  const heard = useRef<PictureEvents>({ select: onSelect, placed: () => {}, lost: () => {}, noted: setNote });
  heard.current = {
    select: onSelect,
    placed: (x, y) => place?.(x, y),
    lost: (isLost) => setRefusal(isLost ? LOST : null),
    noted: setNote,
  };

  useEffect(() => {
    const [surface, frame, names] = [canvas.current, host.current, labels.current];
    if (!surface || !frame || !names) return;
    let made: Engine;
    try {
      made = new Engine(
        surface,
        frame,
        names,
        monitor.tokens,
        monitor.edges,
        {
          select: (id) => heard.current.select(id),
          placed: (x, y) => heard.current.placed(x, y),
          lost: (isLost) => heard.current.lost(isLost),
          noted: (next) => heard.current.noted(next),
        },
        () => monitor.load.loading.tokens === 'done',
      );
    } catch {
      setRefusal('This browser gives no WebGL 2, so there is no picture. The list of tokens has all of it.');
      return;
    }
    engine.current = made;
    return () => {
      made.close();
      engine.current = null;
    };
  }, [monitor, engine]);

  useEffect(() => engine.current?.setTheme(theme), [engine, theme]);
  useEffect(() => engine.current?.setStill(calm), [engine, calm]);
  useEffect(() => engine.current?.setLevel(chosen.level), [engine, chosen.level]);
  useEffect(() => engine.current?.setLook(chosen.shadeBy, chosen.sizeBy), [engine, chosen.shadeBy, chosen.sizeBy]);
  useEffect(() => engine.current?.setPlacing(place !== null), [engine, place]);
  useEffect(() => engine.current?.select(selected), [engine, selected]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the revision is what says that the edges changed
  useEffect(() => engine.current?.edgesTold(), [engine, summary.edgesRevision]);

  const level = LEVELS[chosen.level] as string;
  const denied = summary.loading.denied.length > 0;
  return (
    <section className="picture" aria-labelledby="picture-title">
      <div className="picture-bar">
        <h2 id="picture-title" className="unseen">
          Picture of the tokens
        </h2>
        <fieldset className="levels">
          <legend className="unseen">Level</legend>
          {LEVELS.map((name, index) => (
            <label key={name} data-on={index === chosen.level}>
              <input
                type="radio"
                name="level"
                className="unseen"
                checked={index === chosen.level}
                onChange={() => onChosen({ ...chosen, level: index })}
              />
              {name}
            </label>
          ))}
        </fieldset>
      </div>
      <div
        className="stage"
        ref={host}
        role="application"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the picture is steered by keys too
        tabIndex={0}
        data-placing={place !== null}
        aria-label={`Tokens at the level ${level}: ${count(summary.tokens)} tokens, ${count(summary.edges)} edges`}
        aria-describedby="picture-keys"
      >
        <canvas ref={canvas} />
        <div className="labels" ref={labels} aria-hidden="true" />
      </div>
      <p id="picture-keys" className="unseen">
        Arrows move, plus and minus zoom, 0 fits, n and p select the next and previous token, Escape lets go. The list
        of tokens under Find says the same in text.
      </p>
      {refusal && (
        <p className="refusal" aria-live="polite">
          {refusal}
        </p>
      )}
      {hint && (
        <p className="hint" role="status">
          {hint}{' '}
          <button type="button" className="quiet" onClick={onCancel}>
            Cancel
          </button>
        </p>
      )}
      <Notes note={note} level={level} onAll={() => engine.current?.fit(true)} />
      {summary.tokens === 0 && summary.loading.tokens === 'done' && !place && !denied && <Empty />}
      <div className="picture-foot">
        <Legend chosen={chosen} onChosen={onChosen} theme={theme} zRange={note.zRange} />
        <div className="zoom">
          <button type="button" className="square" aria-label="Zoom in" onClick={() => engine.current?.zoom(1.6)}>
            <Icon name="plus" />
          </button>
          <button type="button" className="square" aria-label="Zoom out" onClick={() => engine.current?.zoom(1 / 1.6)}>
            <Icon name="minus" />
          </button>
          <button
            type="button"
            className="square"
            aria-label={note.outliers > 0 ? 'Show all tokens but those far away' : 'Show all tokens'}
            onClick={() => engine.current?.fit()}
          >
            <Icon name="fit" />
          </button>
        </div>
      </div>
    </section>
  );
}

function Notes({ note, level, onAll }: { note: Note; level: string; onAll: () => void }) {
  const { tokens, evicted, refusedEdges, loading, asking } = useSummary();
  const { all, atOrigin } = note.coincidence;
  const notes: string[] = [];
  if (all)
    notes.push(`All ${count(tokens)} tokens are at one point of ${level}: laid out as a spiral to tell them apart`);
  else if (atOrigin > 1) notes.push(`${count(atOrigin)} tokens lie on each other at 0, 0, 0`);
  if (loading.capped || evicted > 0)
    notes.push(`${count(tokens)} tokens are shown, the newest and those that changed since; there are more`);
  if (refusedEdges > 0) notes.push(`${count(refusedEdges)} more edges are not shown`);
  notes.push(...denials(loading.denied));
  if (loading.tokens === 'failed' && asking === null)
    notes.push('The tokens could not be read; what is shown came by events');
  if (notes.length === 0 && note.outliers === 0) return null;
  return (
    <ul className="notes">
      {notes.map((text) => (
        <li key={text}>{text}</li>
      ))}
      {note.outliers > 0 && (
        <li>
          {count(note.outliers)} of the tokens {note.outliers === 1 ? 'is' : 'are'} far from all others{' '}
          <button type="button" className="link" onClick={onAll}>
            Show all
          </button>
        </li>
      )}
    </ul>
  );
}

/** What of the picture the token does not allow, a line each. */
function denials(denied: readonly Denied[]): string[] {
  const topics = denied.filter((what) => what !== 'read').join(' and ');
  if (!denied.includes('read')) {
    return topics ? [`Your token does not allow to follow ${topics}: what is shown of that stays as it was read`] : [];
  }
  if (denied.length === 3)
    return ['Your token allows neither to read nor to follow tokens and graph: nothing is shown'];
  const more = topics ? `, nor to follow ${topics}` : '';
  return [`Your token does not allow to read${more}: only what changes from now on is shown`];
}

interface LegendProps {
  chosen: Chosen;
  onChosen: (chosen: Chosen) => void;
  theme: 'light' | 'dark';
  zRange: [number, number];
}

function Legend({ chosen, onChosen, theme, zRange }: LegendProps) {
  const paint = PAINTS[theme];
  return (
    <div className="legend">
      <label>
        <span className="what">colour</span>
        <select
          value={chosen.shadeBy}
          onChange={(event) => onChosen({ ...chosen, shadeBy: event.target.value as ShadeBy })}
        >
          <option value="z">z</option>
          <option value="type">type</option>
        </select>
      </label>
      {chosen.shadeBy === 'z' && (
        <span className="ramp">
          <b>{short(zRange[0])}</b>
          <span className="ramp-bar" style={{ background: `linear-gradient(90deg, ${paint.zStops.join(', ')})` }} />
          <b>{short(zRange[1])}</b>
        </span>
      )}
      <label>
        <span className="what">size</span>
        <select
          value={chosen.sizeBy}
          onChange={(event) => onChosen({ ...chosen, sizeBy: event.target.value as SizeBy })}
        >
          <option value="weight">weight</option>
          <option value="degree">degree</option>
          <option value="z">z</option>
          <option value="same">same</option>
        </select>
      </label>
    </div>
  );
}

function Empty() {
  const monitor = useMonitor();
  const [share, setShare] = useState<number | null>(null);
  const [fault, setFault] = useState('');
  const load = async () => {
    setShare(0);
    setFault('');
    try {
      await loadDemo(monitor.ws, setShare);
    } catch (error) {
      setFault(faultsOfError(error).form ?? 'It did not come through.');
    }
    setShare(null);
  };
  return (
    <div className="nothing">
      <svg viewBox="0 0 120 72" aria-hidden="true" focusable="false">
        <path d="M20 54 44 22l22 24 30-30M44 22l52-6M20 54l46-8" />
        <circle cx="20" cy="54" r="5" />
        <circle cx="44" cy="22" r="7" />
        <circle cx="66" cy="46" r="5" />
        <circle cx="96" cy="16" r="6" />
      </svg>
      <h3>No tokens yet</h3>
      <p>What is created anywhere appears here at once.</p>
      <button type="button" className="main-act" disabled={share !== null} onClick={() => void load()}>
        {share === null ? 'Load a small demo graph' : `Loading: ${Math.round(share * 100)} %`}
      </button>
      <p className="aside">
        60 tokens, 120 edges. Or, in a terminal: <code>ngos demo</code>
      </p>
      <Fault>{fault}</Fault>
    </div>
  );
}
