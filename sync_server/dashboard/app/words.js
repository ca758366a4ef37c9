/** The words on the page, in the viewer's language (strings.js), and how numbers, times and amounts are written. */

import { STRINGS } from './strings.js';

const language = STRINGS[document.documentElement.lang] ? document.documentElement.lang : 'en';
const plural = new Intl.PluralRules(language);
const count = new Intl.NumberFormat(language);
const cents = new Intl.NumberFormat(language, { minimumFractionDigits: 2 });
const rate = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const list = new Intl.ListFormat(language, { type: 'unit', style: 'short' });
const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' });
const exactClock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(language, { weekday: 'short', hour: '2-digit', minute: '2-digit' });
const UNITS = Object.fromEntries(['second', 'minute', 'hour', 'day'].map((unit) =>
  [unit, new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: 0 })]));

/**
 * The text `key`. `{name}` in it is replaced by that parameter; `n` chooses the plural. What is put in has a direction
 * of its own, so that a name in another script does not turn the sentence around.
 */
export function t(key, params = {}) {
  const found = STRINGS[language][key];
  if (found === undefined) throw new Error(`there is no text ${key} in ${language}`);
  const text = typeof found === 'string' ? found : found[plural.select(params.n)] ?? found.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = params[name];
    return typeof value === 'number' ? count.format(value) : `\u2068${value}\u2069`;
  });
}

/** The text `prefix.name`, or `name` in readable form where nobody has named it. */
export function named(prefix, name) {
  const key = `${prefix}.${name}`;
  return key in STRINGS[language] ? t(key) : String(name).replaceAll('_', ' ');
}

/** What stands one after the other: `Gate, gallons`. */
export const listed = (texts) => list.format(texts);

export const number = (value) => count.format(value);

/** An amount where no currency is known: `2,000`, `0.50`. */
export const amount = (value) => (Number.isInteger(Number(value)) ? count : cents).format(value);
export const decimal = (value) => rate.format(value);

/** From one state to the next, in the direction of reading. */
export const ARROW = document.documentElement.dir === 'rtl' ? '←' : '→';

/** Hours and minutes in the viewer's zone; with the weekday if that is not today. */
export function shortTime(iso) {
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return '';
  return (moment.toDateString() === new Date().toDateString() ? clock : weekday).format(moment);
}

/** To the second. */
export function exactTime(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? '' : exactClock.format(moment);
}

/** Date and time. */
export function fullTime(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? '' : day.format(moment);
}

/** How long: `45 sec`, `12 min`, `1 hr 5 min`, `3 days`. */
export function duration(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  if (whole < 60) return UNITS.second.format(whole);
  if (whole < 3600) return UNITS.minute.format(Math.floor(whole / 60));
  if (whole < 86_400) {
    const minutes = Math.floor((whole % 3600) / 60);
    return UNITS.hour.format(Math.floor(whole / 3600)) + (minutes ? ` ${UNITS.minute.format(minutes)}` : '');
  }
  return UNITS.day.format(Math.floor(whole / 86_400));
}

/** A short count-down or count-up: `4:05`, `1:02:09`. */
export function countdown(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, place) => (place ? String(part).padStart(2, '0') : String(part))).join(':');
}

const ARABIC_ZERO = '٠'.charCodeAt(0);

/** Numbers as people type them, in the digits and with the point that everybody's programs read. */
export function plainDigits(text) {
  return text.replace(/[٠-٩]/g, (digit) => String(digit.charCodeAt(0) - ARABIC_ZERO)).replaceAll('٫', '.');
}

/** A number as people type it, with the digits and the point that the server reads. */
export function plainNumber(text) {
  return plainDigits(text.trim()).replace(',', '.');
}

/** An amount as the server writes it, a decimal text, in its currency. */
export function money(amount, currency) {
  try {
    const text = new Intl.NumberFormat(language, { style: 'currency', currency, currencyDisplay: 'narrowSymbol' }).format(amount);
    // A sign such as US$ would be torn apart in a line that runs from right to left.
    return document.documentElement.dir === 'rtl' ? `\u2066${text.replaceAll('\u200f', '')}\u2069` : text;
  } catch {
    return `${amount} ${currency}`;
  }
}
