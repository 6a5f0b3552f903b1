import { type FormEvent, useState } from 'react';
import { faultsOfError } from '../forms/send';
import { OWN_TOPICS, type TopicSummary } from '../state/monitor';
import { Fault } from './Fault';
import { count, rate } from './format';
import { useMonitor, useSummary } from './hooks';
import { Icon } from './Icon';

const WIDTH = 120;
const HEIGHT = 26;

export function Topics() {
  const { topics } = useSummary();
  const monitor = useMonitor();
  const [fault, setFault] = useState('');
  const follow = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const name = String(new FormData(form).get('topic') ?? '').trim();
    if (name === '') return;
    try {
      await monitor.follow(name);
      setFault('');
      form.reset();
    } catch (error) {
      setFault(faultsOfError(error).form ?? 'It can’t be followed.');
    }
  };
  return (
    <section className="panel topics" aria-labelledby="topics-title">
      <h2 id="topics-title">Topics</h2>
      <ul>
        {topics.map((topic) => (
          <Topic
            key={topic.name}
            topic={topic}
            onLeave={isOwn(topic.name) ? null : () => void monitor.leave(topic.name).catch(() => {})}
          />
        ))}
      </ul>
      <form className="follow" onSubmit={(event) => void follow(event)}>
        <input
          name="topic"
          aria-label="Follow another topic"
          placeholder="Follow another topic"
          pattern="[a-zA-Z0-9._:\-]{1,128}"
          maxLength={128}
          autoComplete="off"
          spellCheck={false}
        />
        <button type="submit" className="quiet">
          Follow
        </button>
      </form>
      <Fault>{fault}</Fault>
    </section>
  );
}

function Topic({ topic, onLeave }: { topic: TopicSummary; onLeave: (() => void) | null }) {
  const position = topic.seq === null ? 'not numbered' : `position ${count(topic.seq)}`;
  return (
    <li className="topic" data-topic={topic.name}>
      <span className="unseen">
        {topic.denied
          ? `${topic.name}: your token does not allow to follow it`
          : `${topic.name}: ${position}, ${rate(topic.perSecond)} events per second`}
      </span>
      <span className="name" aria-hidden="true">
        <i className="chip" />
        {topic.name}
      </span>
      {topic.denied && (
        <span className="denied" aria-hidden="true">
          not allowed
        </span>
      )}
      <span
        className="seq"
        hidden={topic.denied}
        aria-hidden="true"
        title={topic.epoch ? `epoch ${topic.epoch}` : 'this topic is not numbered'}
      >
        {topic.seq === null ? '–' : count(topic.seq)}
      </span>
      {!topic.denied && <Chart series={topic.series} />}
      <span className="rate" aria-hidden="true" hidden={topic.denied}>
        {rate(topic.perSecond)}
        <small>/s</small>
      </span>
      {onLeave && (
        <button type="button" className="quiet tiny" aria-label={`Stop following ${topic.name}`} onClick={onLeave}>
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}

/** The last minute, a bar a second. */
function Chart({ series }: { series: number[] }) {
  const most = Math.max(4, ...series);
  const step = WIDTH / series.length;
  const bars = series
    .map((value, i) => {
      if (value === 0) return '';
      const height = Math.max(1, (value / most) * HEIGHT);
      return `M${(i * step).toFixed(1)} ${HEIGHT}v${(-height).toFixed(1)}h${(step - 0.5).toFixed(1)}v${height.toFixed(1)}z`;
    })
    .join('');
  return (
    <svg className="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path className="base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      <path className="bars" d={bars} />
    </svg>
  );
}

function isOwn(name: string): boolean {
  return (OWN_TOPICS as readonly string[]).includes(name);
}
