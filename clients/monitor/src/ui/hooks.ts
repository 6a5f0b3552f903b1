import {
  createContext,
  type Dispatch,
  type SetStateAction,
  useContext,
  useEffect,
  useState,
  useSyncExternalStore,
} from 'react';
import type { Monitor, Summary } from '../state/monitor';

export const MonitorContext = createContext<Monitor | null>(null);

export function useMonitor(): Monitor {
  const monitor = useContext(MonitorContext);
  if (!monitor) throw new Error('outside of the page');
  return monitor;
}

/** The summary; renders again when it changes, a few times a second at most. */
export function useSummary(): Summary {
  const monitor = useMonitor();
  return useSyncExternalStore(monitor.subscribe, monitor.snapshot);
}

/** What was typed into forms that are not open now, by the names that `useKept` has for it. */
export const KeptContext = createContext(new Map<string, unknown>());

/** As useState, but it is still there when the component comes again, until `forget`. */
export function useKept<T>(name: string, first: () => T): [T, Dispatch<SetStateAction<T>>, () => void] {
  const kept = useContext(KeptContext);
  const [value, setValue] = useState<T>(() => (kept.has(name) ? (kept.get(name) as T) : first()));
  useEffect(() => {
    kept.set(name, value);
  }, [kept, name, value]);
  return [value, setValue, () => kept.delete(name)];
}

export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const heed = () => setMatches(media.matches);
    heed();
    media.addEventListener('change', heed);
    return () => media.removeEventListener('change', heed);
  }, [query]);
  return matches;
}

/** `performance.now()`, again each `everyMs`; 0: it stands. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (everyMs === 0) return;
    setNow(performance.now());
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export type ThemeChoice = 'system' | 'light' | 'dark';
const THEME_KEY = 'ngos.theme';

/** The theme that is in force and the choice behind it, which this browser remembers. */
export function useTheme(): { theme: 'light' | 'dark'; choice: ThemeChoice; choose: (choice: ThemeChoice) => void } {
  const dark = useMedia('(prefers-color-scheme: dark)');
  const [choice, setChoice] = useState<ThemeChoice>(remembered);
  const theme = choice === 'system' ? (dark ? 'dark' : 'light') : choice;
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const choose = (next: ThemeChoice) => {
    setChoice(next);
    try {
      localStorage.setItem(THEME_KEY, next);
    } catch {
      // Where nothing may be stored, the choice lasts as long as the page.
    }
  };
  return { theme, choice, choose };
}

function remembered(): ThemeChoice {
  try {
    const stored = localStorage.getItem(THEME_KEY);
    return stored === 'light' || stored === 'dark' ? stored : 'system';
  } catch {
    return 'system';
  }
}
