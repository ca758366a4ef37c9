/** Ids that this client makes. */

const ALPHABET = '23456789abcdefghjkmnpqrstuvwxyz';

/** An id that can be read out loud: 12 characters, about 59 bits, none of them alike. */
export function newId(length = 12) {
  const letters = [];
  while (letters.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      // 248 = 8 * 31: what is above would make the first letters more likely.
      if (byte < 248 && letters.length < length) letters.push(ALPHABET[byte % ALPHABET.length]);
    }
  }
  return letters.join('');
}

/** A UUID; crypto.randomUUID exists in secure contexts only. */
export function newKey() {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}
