import { type KeyboardEvent, useRef, useState } from 'react';
import { Create } from './Create';
import { Find } from './Find';
import { KeptContext } from './hooks';
import { Token } from './Token';

export const TABS = ['Token', 'Find', 'New'] as const;
export type Tab = (typeof TABS)[number];

export interface Connecting {
  from: string | null;
  to: string | null;
  begin: (id: string) => void;
  end: () => void;
}

export type AskForPlace = (hear: ((x: number, y: number) => void) | null) => void;

interface Props {
  tab: Tab;
  onTab: (tab: Tab) => void;
  level: number;
  selected: string | null;
  onSelect: (id: string | null) => void;
  connecting: Connecting;
  placing: boolean;
  askForPlace: AskForPlace;
}

export function Inspector({ tab, onTab, level, selected, onSelect, connecting, placing, askForPlace }: Props) {
  const [kept] = useState(() => new Map<string, unknown>());
  const list = useRef<HTMLDivElement>(null);
  const steer = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length] as Tab;
    onTab(next);
    list.current?.querySelector<HTMLButtonElement>(`#tab-${next}`)?.focus();
  };
  return (
    <section className="panel inspector" id="tokens" aria-label="Tokens">
      <div className="tabs" role="tablist" aria-label="Tokens" ref={list} onKeyDown={steer}>
        {TABS.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-controls="tab-panel"
            aria-selected={tab === name}
            tabIndex={tab === name ? 0 : -1}
            onClick={() => onTab(name)}
          >
            {name}
          </button>
        ))}
      </div>
      <div className="tab-panel" id="tab-panel" role="tabpanel" aria-labelledby={`tab-${tab}`}>
        <KeptContext value={kept}>
          {tab === 'Token' && (
            <Token
              key={selected}
              id={selected}
              level={level}
              onSelect={onSelect}
              connecting={connecting}
              placing={placing}
              askForPlace={askForPlace}
            />
          )}
          {tab === 'Find' && <Find selected={selected} onSelect={onSelect} />}
          {tab === 'New' && <Create level={level} placing={placing} askForPlace={askForPlace} onCreated={onSelect} />}
        </KeptContext>
      </div>
    </section>
  );
}
