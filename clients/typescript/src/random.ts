/** Names that nobody else has. */

/** `count` random bytes as hex digits. `crypto.randomUUID` is missing on pages that came over plain http. */
export function randomHex(count: number): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(count)), (byte) => byte.toString(16).padStart(2, '0')).join(
    '',
  );
}
