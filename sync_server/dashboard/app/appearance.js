/*
 * What the viewer has chosen of language, colours and contrast, put on <html> before anything is drawn; a plain script
 * for that reason. It leaves `orderSyncAppearance` for settings.js: `{get(), set(changes), apply()}`.
 */
(() => {
  const KEY = 'order-sync-appearance';
  const DEFAULTS = { theme: 'auto', contrast: 'auto', language: 'auto' };
  const RIGHT_TO_LEFT = new Set(['ar']);
  const LANGUAGES = ['en', 'ar'];
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const more = matchMedia('(prefers-contrast: more)');

  const get = () => {
    try {
      return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') };
    } catch {
      return { ...DEFAULTS }; // storage is blocked, or somebody else's
    }
  };

  const chosen = get();

  const languageOf = (wish) => {
    const wishes = wish === 'auto' ? navigator.languages : [wish];
    return wishes.map((tag) => tag.split('-')[0]).find((language) => LANGUAGES.includes(language)) ?? 'en';
  };

  const apply = () => {
    const { dataset } = document.documentElement;
    dataset.theme = chosen.theme === 'auto' ? (dark.matches ? 'dark' : 'light') : chosen.theme;
    dataset.contrast = chosen.contrast === 'auto' ? (more.matches ? 'more' : 'normal') : chosen.contrast;
    document.documentElement.lang = languageOf(chosen.language);
    document.documentElement.dir = RIGHT_TO_LEFT.has(document.documentElement.lang) ? 'rtl' : 'ltr';
  };

  const set = (changes) => {
    Object.assign(chosen, changes);
    try {
      localStorage.setItem(KEY, JSON.stringify(chosen));
    } catch {
      // then it holds for this page only
    }
    apply();
  };

  dark.addEventListener('change', apply);
  more.addEventListener('change', apply);
  apply();
  globalThis.orderSyncAppearance = Object.freeze({ get: () => ({ ...chosen }), set, apply });
})();
