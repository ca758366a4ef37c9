/** Pull down at the top of the page, on a touch screen, to refresh. */

import { el, setAttribute, setVariable } from './dom.js';
import { icon } from './icons.js';

const FAR_PX = 70;
const MAX_PX = 110;

/** refresh(): a promise; the sign turns until it is done. Gives the element that shows it. */
export function pullToRefresh(refresh) {
  const sign = el('div', { class: 'pull', 'aria-hidden': 'true' }, icon('refresh'));
  let fromY = null;
  let pulledPx = 0;

  const show = (px) => {
    pulledPx = px;
    setVariable(sign, '--pull', `${px}px`);
  };
  const isAtTop = (target) => {
    for (let node = target; node instanceof Element; node = node.parentElement) if (node.scrollTop > 0) return false;
    return scrollY <= 0 && !target.closest('dialog, [popover], .is-dragging');
  };
  addEventListener('touchstart', (event) => {
    fromY = event.touches.length === 1 && isAtTop(event.target) ? event.touches[0].clientY : null;
  }, { passive: true });
  addEventListener('touchmove', (event) => {
    if (fromY === null) return;
    if (document.querySelector('.is-dragging')) fromY = null;
    show(fromY === null ? 0 : Math.min(Math.max((event.touches[0].clientY - fromY) / 2, 0), MAX_PX));
  }, { passive: true });
  const end = async () => {
    fromY = null;
    if (pulledPx < FAR_PX) {
      show(0);
      return;
    }
    show(FAR_PX);
    setAttribute(sign, 'data-busy', true);
    await Promise.race([refresh(), new Promise((resolve) => setTimeout(resolve, 3000))]);
    setAttribute(sign, 'data-busy', false);
    show(0);
  };
  addEventListener('touchend', end);
  addEventListener('touchcancel', end);
  return sign;
}
