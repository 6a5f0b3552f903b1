// What a form holds before it is sent: texts, as they were typed. Pure.
import { LEVEL_COUNT, type Token } from '../wire';

export const AXES = ['x', 'y', 'z'] as const;

export interface Draft {
  type: string;
  weight: string;
  flags: string;
  metadata: string;
  x: string[];
  y: string[];
  z: string[];
}

export type Field = 'type' | 'weight' | 'flags' | 'metadata' | 'coordinates' | 'form';
export type Faults = Partial<Record<Field, string>>;

export interface TokenFields {
  type: string;
  weight: number;
  flags: number;
  metadata: Record<string, unknown>;
  coord_x: number[];
  coord_y: number[];
  coord_z: number[];
}

const FLAGS_MOST = 2 ** 32 - 1;
const TYPE_LONGEST = 50;
const METADATA_BYTES = 16_384;
/** A comma that may be a decimal one or not: whoever typed it must say. */
const THOUSANDS = /^[+-]?[1-9]\d{0,2}(,\d{3})+$/;
const DECIMAL = /^[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?$/i;
const HALF = 'half a character (a lone surrogate) can’t be sent';

export function emptyDraft(): Draft {
  const zeros = () => Array.from({ length: LEVEL_COUNT }, () => '0');
  return { type: 'default', weight: '1', flags: '0', metadata: '{}', x: zeros(), y: zeros(), z: zeros() };
}

export function draftOf(token: Token): Draft {
  const { coordinates } = token;
  const texts = (numbers: number[]) => Array.from({ length: LEVEL_COUNT }, (_, level) => String(numbers[level] ?? 0));
  return {
    type: token.type,
    weight: String(token.weight),
    flags: String(token.flags),
    metadata: JSON.stringify(token.metadata, null, 2),
    x: texts(coordinates.x),
    y: texts(coordinates.y),
    z: texts(coordinates.z),
  };
}

/** What the draft says, or what is wrong with it, per field. */
export function read(draft: Draft): { fields: TokenFields; faults: null } | { fields: null; faults: Faults } {
  const faults: Faults = {};
  if (/\p{Surrogate}/u.test(draft.type)) faults.type = HALF;
  if (draft.type.length < 1 || draft.type.length > TYPE_LONGEST) faults.type = `1 to ${TYPE_LONGEST} characters`;
  const weight = numberOf(draft.weight);
  if (weight === null) faults.weight = faultOfNumber(draft.weight);
  const flags = numberOf(draft.flags);
  if (flags === null || !Number.isInteger(flags) || flags < 0 || flags > FLAGS_MOST) {
    faults.flags = `a whole number from 0 to ${FLAGS_MOST}`;
  }
  const metadata = objectOf(draft.metadata);
  if (typeof metadata === 'string') faults.metadata = metadata;
  const axes = AXES.map((axis) => draft[axis].map(numberOf));
  const wrong = AXES.flatMap((axis) => draft[axis]).find((text) => numberOf(text) === null);
  if (wrong !== undefined) {
    faults.coordinates = THOUSANDS.test(wrong.trim()) ? faultOfNumber(wrong) : 'numbers, in every box';
  }
  if (Object.keys(faults).length > 0) return { fields: null, faults };
  return {
    fields: {
      type: draft.type,
      weight: weight as number,
      flags: flags as number,
      metadata: metadata as Record<string, unknown>,
      coord_x: axes[0] as number[],
      coord_y: axes[1] as number[],
      coord_z: axes[2] as number[],
    },
    faults: null,
  };
}

/** The fields that differ from what the token has. */
export function changesOf(fields: TokenFields, token: Token): Partial<TokenFields> {
  const now: TokenFields = {
    type: token.type,
    weight: token.weight,
    flags: token.flags,
    metadata: token.metadata,
    coord_x: token.coordinates.x,
    coord_y: token.coordinates.y,
    coord_z: token.coordinates.z,
  };
  const differs = (key: keyof TokenFields) => JSON.stringify(fields[key]) !== JSON.stringify(now[key]);
  return Object.fromEntries(
    (Object.keys(now) as (keyof TokenFields)[]).filter(differs).map((key) => [key, fields[key]]),
  );
}

/** What was typed into a form that was filled with `base`, over what the token is by now. */
export function rebased(draft: Draft, base: Token, newer: Token): Draft {
  const [from, onto] = [draftOf(base), draftOf(newer)];
  const axis = (name: 'x' | 'y' | 'z') =>
    draft[name].map((text, level) => (text === from[name][level] ? (onto[name][level] ?? text) : text));
  const kept = (name: 'type' | 'weight' | 'flags' | 'metadata') =>
    draft[name] === from[name] ? onto[name] : draft[name];
  return {
    type: kept('type'),
    weight: kept('weight'),
    flags: kept('flags'),
    metadata: kept('metadata'),
    x: axis('x'),
    y: axis('y'),
    z: axis('z'),
  };
}

/** The server's faults (`details.errors`), each at the field that its path leads to. */
export function faultsOf(errors: readonly { path: string; message: string }[]): Faults {
  const faults: Faults = {};
  for (const { path, message } of errors) {
    const field = fieldOf(path);
    const text = field === 'form' ? `${path}: ${message}` : message;
    faults[field] = faults[field] ? `${faults[field]}; ${text}` : text;
  }
  return faults;
}

function fieldOf(path: string): Field {
  const name = path.match(/^payload\.([a-z_]+)/)?.[1] ?? '';
  if (/^coord_[xyz]$/.test(name)) return 'coordinates';
  return name === 'type' || name === 'weight' || name === 'flags' || name === 'metadata' ? name : 'form';
}

/** The number that a text is, with a decimal point or comma; null: it is none, or may be two. */
export function numberOf(text: string): number | null {
  const trimmed = text.trim();
  if (!DECIMAL.test(trimmed) || THOUSANDS.test(trimmed)) return null;
  const value = Number(trimmed.replace(',', '.'));
  return Number.isFinite(value) ? value : null;
}

/** What to say of a text that `numberOf` does not take. */
export function faultOfNumber(text: string): string {
  const trimmed = text.trim();
  if (!THOUSANDS.test(trimmed)) return 'a number';
  return `a number: ${trimmed} may be ${trimmed.replaceAll(',', '')} or ${trimmed.replace(',', '.')}; write it without a comma`;
}

function objectOf(text: string): Record<string, unknown> | string {
  let value: unknown;
  try {
    value = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    return 'JSON, as in {"name": "Ada"}';
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'a JSON object, as in {"name": "Ada"}';
  // JSON.stringify escapes what is half a character, and nothing else in this way.
  if (/\\ud[89a-f]/i.test(JSON.stringify(value).replaceAll('\\\\', ''))) return HALF;
  if (new TextEncoder().encode(JSON.stringify(value)).length > METADATA_BYTES) return 'at most 16 KiB';
  return value as Record<string, unknown>;
}
