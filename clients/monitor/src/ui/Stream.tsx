// The last events. Only the rows that are on screen are in the document.
import { useEffect, useRef, useState } from 'react';
import { STREAM_LENGTH, type StreamEntry } from '../state/stream';
import { clock, clockFine, count } from './format';
import { useMonitor, useSummary } from './hooks';
import { Icon } from './Icon';

const ROW_PIXELS = 26;
const SPARE_ROWS = 4;

export function Stream({ onSelect }: { onSelect: (id: string) => void }) {
  const monitor = useMonitor();
  const { events, topics } = useSummary();
  const [text, setText] = useState('');
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set(['system']));
  /** What is read while the stream goes on; its ring would soon have other events in these places. */
  const [held, setHeld] = useState<{ total: number; entries: StreamEntry[] } | null>(null);
  const paused = held !== null;
  const hold = () => setHeld({ total: monitor.stream.total, entries: monitor.stream.all() });
  const shown = monitor.stream.entries({ text, hidden }, held?.entries);
  const missed = held ? Math.max(0, events - held.total) : 0;
  const toggle = (topic: string) => {
    const next = new Set(hidden);
    if (!next.delete(topic)) next.add(topic);
    setHidden(next);
  };
  return (
    <section className="panel stream" aria-labelledby="stream-title">
      <div className="panel-head">
        <h2 id="stream-title">Events</h2>
        <span className="aside">{paused ? `paused · ${count(missed)} new` : `last ${count(STREAM_LENGTH)} kept`}</span>
        <button type="button" className="quiet" aria-pressed={paused} onClick={() => (paused ? setHeld(null) : hold())}>
          <Icon name={paused ? 'play' : 'pause'} />
          {paused ? 'Resume' : 'Pause'}
        </button>
      </div>
      <div className="filter">
        <input
          type="search"
          aria-label="Filter events by text"
          placeholder="Filter: type, name, id, sender"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <fieldset className="chips" aria-label="Topics that are shown">
          {topics.map(({ name }) => (
            <button
              key={name}
              type="button"
              className="chip-button"
              data-topic={name}
              aria-pressed={!hidden.has(name)}
              onClick={() => toggle(name)}
            >
              <i className="chip" />
              {name}
            </button>
          ))}
        </fieldset>
      </div>
      {shown.length === 0 ? (
        <p className="empty">{events === 0 ? 'Nothing happened yet.' : 'No event passes the filter.'}</p>
      ) : (
        <Rows
          entries={shown}
          onSelect={onSelect}
          onReading={(reading) => {
            if (reading && !paused) hold();
          }}
        />
      )}
    </section>
  );
}

interface RowsProps {
  entries: StreamEntry[];
  onSelect: (id: string) => void;
  /** Somebody scrolled down: what is read must not move away. */
  onReading: (reading: boolean) => void;
}

function Rows({ entries, onSelect, onReading }: RowsProps) {
  const host = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 400 });
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const measure = () => setScroll({ top: element.scrollTop, height: element.clientHeight });
    measure();
    const resized = new ResizeObserver(measure);
    resized.observe(element);
    return () => resized.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(scroll.top / ROW_PIXELS) - SPARE_ROWS);
  const last = Math.min(entries.length, Math.ceil((scroll.top + scroll.height) / ROW_PIXELS) + SPARE_ROWS);
  return (
    <div
      className="rows"
      ref={host}
      role="log"
      aria-live="off"
      aria-label="Events, newest first"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      onScroll={(event) => {
        const { scrollTop, clientHeight } = event.currentTarget;
        setScroll({ top: scrollTop, height: clientHeight });
        onReading(scrollTop > ROW_PIXELS);
      }}
    >
      <div className="rows-all" style={{ height: entries.length * ROW_PIXELS }}>
        {entries.slice(first, last).map((entry, i) => (
          <Row key={entry.number} entry={entry} top={(first + i) * ROW_PIXELS} onSelect={onSelect} />
        ))}
      </div>
    </div>
  );
}

function Row({ entry, top, onSelect }: { entry: StreamEntry; top: number; onSelect: (id: string) => void }) {
  const { tokens } = useMonitor();
  const { tokenId, targetId } = entry;
  const inside = (
    <>
      <time>{clock(entry.atMs)}</time>
      <i className="chip" />
      <span className="type">{entry.type}</span>
      <span className="brief">
        {tokenId && (
          <b>{targetId ? `${tokens.nameOf(tokenId)} → ${tokens.nameOf(targetId)}` : tokens.nameOf(tokenId)}</b>
        )}{' '}
        {entry.brief}
      </span>
    </>
  );
  const facts = {
    className: 'row',
    'data-topic': entry.topic,
    'data-type': entry.type,
    style: { transform: `translateY(${top}px)` },
    title: `${entry.topic} ${entry.seq ?? ''} ${clockFine(entry.atMs)} ${entry.sender ? `from ${entry.sender}` : ''}`,
  };
  if (!tokenId) return <div {...facts}>{inside}</div>;
  return (
    <button type="button" {...facts} onClick={() => onSelect(tokenId)}>
      {inside}
    </button>
  );
}
