// The page's parts and what they share: the level, the selected token, what a click in the picture means.
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { offer } from '../measure';
import type { Picture as PictureEngine } from '../picture/picture';
import type { ShadeBy, SizeBy } from '../picture/places';
import { Head } from './Head';
import { useMonitor, useTheme } from './hooks';
import { Inspector, TABS, type Tab } from './Inspector';
import { Picture } from './Picture';
import { Stream } from './Stream';
import { Topics } from './Topics';

export interface Chosen {
  level: number;
  shadeBy: ShadeBy;
  sizeBy: SizeBy;
}

const VIEWS = ['Events', 'Topics', ...TABS] as const;
type View = (typeof VIEWS)[number];
const isTab = (view: View): view is Tab => view !== 'Events' && view !== 'Topics';

export function Board() {
  const monitor = useMonitor();
  const { theme, choose } = useTheme();
  const [chosen, setChosen] = useState<Chosen>({ level: 0, shadeBy: 'z', sizeBy: 'weight' });
  const [selected, setSelected] = useState<string | null>(null);
  const [connectFrom, setConnectFrom] = useState<string | null>(null);
  const [connectTo, setConnectTo] = useState<string | null>(null);
  const [place, setPlace] = useState<((x: number, y: number) => void) | null>(null);
  const [tab, setTab] = useState<Tab>('Token');
  const [view, setView] = useState<View>('Events');
  const picture = useRef<PictureEngine | null>(null);

  useEffect(() => offer(monitor, () => picture.current), [monitor]);

  const show = useCallback((next: View) => {
    setView(next);
    if (isTab(next)) setTab(next);
  }, []);

  const select = useCallback(
    (id: string | null) => {
      if (connectFrom && id && id !== connectFrom) {
        setConnectTo(id);
        show('Token');
        return;
      }
      setConnectFrom(null);
      setConnectTo(null);
      setSelected(id);
      if (id) show('Token');
    },
    [connectFrom, show],
  );

  const askForPlace = useCallback((hear: ((x: number, y: number) => void) | null) => setPlace(() => hear), []);
  const connecting = useMemo(
    () => ({
      from: connectFrom,
      to: connectTo,
      begin: (id: string) => {
        setConnectFrom(id);
        setConnectTo(null);
      },
      end: () => {
        setConnectFrom(null);
        setConnectTo(null);
      },
    }),
    [connectFrom, connectTo],
  );

  const hint = place
    ? 'Click where the token should be'
    : connectFrom && !connectTo
      ? 'Click the token to connect to'
      : null;

  return (
    <div className="board" data-view={view}>
      <a className="skip" href="#tokens">
        Skip to the list of tokens
      </a>
      <Head theme={theme} onTheme={choose} />
      <main className="main">
        <Picture
          engine={picture}
          theme={theme}
          chosen={chosen}
          onChosen={setChosen}
          selected={selected}
          onSelect={select}
          place={place}
          hint={hint}
          onCancel={() => {
            setPlace(null);
            connecting.end();
          }}
        />
        <aside className="side" aria-label="Topics and events">
          <Topics />
          <Stream onSelect={select} />
        </aside>
        <Inspector
          tab={tab}
          onTab={show}
          level={chosen.level}
          selected={selected}
          onSelect={select}
          connecting={connecting}
          placing={place !== null}
          askForPlace={askForPlace}
        />
      </main>
      <nav className="views" aria-label="Parts of the page">
        {VIEWS.map((name) => (
          <button key={name} type="button" aria-pressed={view === name} onClick={() => show(name)}>
            {name}
          </button>
        ))}
      </nav>
    </div>
  );
}
