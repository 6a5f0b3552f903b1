const COUNT = new Intl.NumberFormat('en');
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const MOMENT = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

export const count = (value: number): string => COUNT.format(value);
export const clock = (ms: number): string => CLOCK.format(ms);
export const clockFine = (ms: number): string =>
  `${CLOCK.format(ms)}.${String(Math.floor(ms % 1000)).padStart(3, '0')}`;
/** A time to come: of today the clock's, else with the day. */
export const until = (ms: number): string =>
  new Date(ms).toDateString() === new Date().toDateString() ? CLOCK.format(ms) : MOMENT.format(ms);
export const moment = (iso: string): string => MOMENT.format(new Date(iso));

export function rate(perSecond: number): string {
  if (perSecond === 0) return '0';
  if (perSecond >= 1000) return `${(perSecond / 1000).toFixed(1)}k`;
  return perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}

export function roundTrip(ms: number | null): string {
  if (ms === null) return '–';
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

export function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}
