/** Amounts: text with two places, reckoned without binary fractions. */

function cents(text) {
  const [, whole, fraction = ''] = /^(\d+)(?:\.(\d{1,2}))?$/.exec(String(text)) ?? [null, '0'];
  return BigInt(whole) * 100n + BigInt(fraction.padEnd(2, '0') || '0');
}

const text = (sum) => `${sum / 100n}.${String(sum % 100n).padStart(2, '0')}`;

/** As the server writes it: '12.5' is '12.50'. */
export const amount = (given) => text(cents(given));

/** What `priced`, pairs of an amount and a quantity, come to. */
export const sum = (priced) =>
  text(priced.reduce((all, [price, quantity]) => all + cents(price) * BigInt(quantity), 0n));

/** `larger` less `smaller`; null where that would be less than nothing. */
export function difference(larger, smaller) {
  const left = cents(larger) - cents(smaller);
  return left < 0n ? null : text(left);
}
