import type { Summary } from '../state/monitor';
import { type Chapter, sentenceOf } from '../state/story';
import { clock, count, rate, roundTrip } from './format';
import { type ThemeChoice, useMonitor, useNow, useSummary } from './hooks';
import { Icon } from './Icon';
import { TokenAsked } from './TokenAsked';
import { Who } from './Who';

interface Props {
  theme: 'light' | 'dark';
  onTheme: (choice: ThemeChoice) => void;
}

export function Head({ theme, onTheme }: Props) {
  const monitor = useMonitor();
  const summary = useSummary();
  const events = summary.topics.reduce((sum, topic) => sum + topic.perSecond, 0);
  return (
    <header className="head">
      <h1 className="brand">
        <img src="/mark.svg" alt="" width="24" height="24" />
        <span>
          ngos <small>monitor</small>
        </span>
      </h1>
      <Connection summary={summary} />
      {summary.state === 'ended' && summary.asking === null && (
        <button type="button" onClick={() => monitor.connect()}>
          Connect again
        </button>
      )}
      <p className="latest">{latestOf(summary)}</p>
      <dl className="numbers">
        <div>
          <dt>round trip</dt>
          <dd>{roundTrip(summary.roundTripMs)}</dd>
        </div>
        <div>
          <dt>tokens</dt>
          <dd>{count(summary.tokens)}</dd>
        </div>
        <div>
          <dt>edges</dt>
          <dd>{count(summary.edges)}</dd>
        </div>
        <div>
          <dt>events/s</dt>
          <dd>{rate(events)}</dd>
        </div>
      </dl>
      {summary.identity && <Who identity={summary.identity} />}
      <button
        type="button"
        className="quiet square"
        aria-label={theme === 'dark' ? 'Light theme' : 'Dark theme'}
        title={theme === 'dark' ? 'Light theme' : 'Dark theme'}
        onClick={() => onTheme(theme === 'dark' ? 'light' : 'dark')}
      >
        <Icon name={theme === 'dark' ? 'sun' : 'moon'} />
      </button>
      {summary.asking && <TokenAsked asking={summary.asking} signing={summary.signing} />}
    </header>
  );
}

const STATES: Record<Summary['state'], string> = {
  idle: 'Not connected',
  connecting: 'Connecting',
  connected: 'Connected',
  reconnecting: 'Reconnecting',
  ended: 'Not connected',
};

function stateOf({ state, asking }: Summary): string {
  if (state !== 'ended' || asking === null) return STATES[state];
  return asking === 'expired' ? 'Token expired' : 'Not signed in';
}

function Connection({ summary }: { summary: Summary }) {
  const waiting = summary.state === 'reconnecting' && summary.nextAtMs !== null;
  const now = useNow(waiting ? 100 : 0);
  const left = waiting ? Math.max(0, (summary.nextAtMs as number) - now) : 0;
  const chapters = [...summary.chapters].reverse();
  return (
    <>
      <p className="unseen" role="status">
        {stateOf(summary)}. {chapters[0] ? sentenceOf(chapters[0]) : ''}
      </p>
      <details className="connection" data-state={summary.state}>
        <summary aria-label={`Connection: ${stateOf(summary)}. What happened so far`}>
          <span className="dot" />
          <span className="state">
            {stateOf(summary)}
            {left > 0 && <span className="left"> in {(left / 1000).toFixed(1)} s</span>}
          </span>
          <Icon name="down" />
        </summary>
        <ol className="chapters">
          {chapters.length === 0 && <li>Nothing yet.</li>}
          {chapters.map((chapter) => (
            <li key={`${chapter.atMs} ${sentenceOf(chapter)}`} data-kind={chapter.kind}>
              <time>{clock(chapter.atMs)}</time> {sentenceOf(chapter)}
            </li>
          ))}
        </ol>
      </details>
    </>
  );
}

/** What the line beside the state says: after a break both its halves, else what is being read. */
function latestOf({ chapters, loading, state }: Summary): string {
  const last = chapters.at(-1);
  const lost = chapters.findLast((chapter): chapter is Extract<Chapter, { kind: 'lost' }> => chapter.kind === 'lost');
  if (state === 'connected' && loading.tokens === 'reading') return 'Reading tokens…';
  if (loading.edges === 'replaying' && loading.of > 0) {
    return `Replaying the graph: ${count(loading.through)} of ${count(loading.of)} events`;
  }
  if (loading.edges === 'asking')
    return `Reading edges: ${count(loading.through)} of ${count(loading.of)} tokens asked`;
  if (!last) return '';
  if (last.kind === 'back' && lost) return `connection lost ${clock(lost.atMs)} · ${sentenceOf(last)}`;
  return `${clock(last.atMs)} ${sentenceOf(last)}`;
}
