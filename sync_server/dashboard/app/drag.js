/**
 * Dragging cards with mouse, pen or finger. A finger has to rest on the card first, since a swipe scrolls.
 *
 * Pointer events instead of the browser's own dragging, which touch screens do not have.
 */

const THRESHOLD_PX = 6;
const REST_MS = 350;
const EDGE_PX = 48;

/**
 * handlers: `mayStart(card)`, `started(card)`, `over(column or null)`, `dropped(card, column or null)`: the end, with
 * null when it was given up. Cards are `.card`, columns `[data-column]`. Gives the function that stops it.
 */
export function dragging(board, handlers) {
  let drag = null; // {card, x, y, pointerId, ghost, timer}

  const begin = () => {
    clearTimeout(drag.timer);
    const { card } = drag;
    const at = card.getBoundingClientRect();
    const ghost = card.cloneNode(true);
    for (const node of [ghost, ...ghost.querySelectorAll('[id]')]) node.removeAttribute('id');
    ghost.classList.add('ghost');
    ghost.setAttribute('aria-hidden', 'true');
    ghost.inert = true;
    ghost.style.setProperty('width', `${at.width}px`);
    drag.offset = { x: drag.x - at.left, y: drag.y - at.top };
    drag.ghost = ghost;
    document.body.append(ghost);
    card.classList.add('is-lifted');
    board.classList.add('is-dragging');
    board.setPointerCapture?.(drag.pointerId);
    getSelection()?.removeAllRanges();
    handlers.started(card);
    moveGhost(drag.x, drag.y);
  };

  const moveGhost = (x, y) => {
    drag.ghost.style.setProperty('transform', `translate(${x - drag.offset.x}px, ${y - drag.offset.y}px) rotate(1.5deg)`);
    const column = document.elementFromPoint(x, y)?.closest('[data-column]') ?? null;
    drag.column = column;
    handlers.over(column);
    if (x < EDGE_PX) board.scrollBy({ left: -12 });
    else if (x > innerWidth - EDGE_PX) board.scrollBy({ left: 12 });
  };

  const finish = (isDropped) => {
    if (drag === null) return;
    const { card, ghost, column, timer } = drag;
    clearTimeout(timer);
    drag = null;
    if (!ghost) return;
    ghost.remove();
    card.classList.remove('is-lifted');
    board.classList.remove('is-dragging');
    handlers.dropped(card, isDropped ? column ?? null : null);
    // The click that the browser makes of it would open the card.
    const swallow = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    addEventListener('click', swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener('click', swallow, { capture: true }), 0);
  };

  const onDown = (event) => {
    const card = event.target.closest('.card');
    if (event.button !== 0 || drag || !card || event.target.closest('button') || !handlers.mayStart(card)) return;
    drag = { card, x: event.clientX, y: event.clientY, pointerId: event.pointerId, ghost: null };
    if (event.pointerType === 'touch') drag.timer = setTimeout(begin, REST_MS);
  };
  const onMove = (event) => {
    if (drag === null || event.pointerId !== drag.pointerId) return;
    if (drag.ghost) {
      moveGhost(event.clientX, event.clientY);
      return;
    }
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < THRESHOLD_PX) return;
    if (event.pointerType === 'touch') finish(false);
    else begin();
  };
  const onUp = (event) => event.pointerId === drag?.pointerId && finish(true);
  const onCancel = (event) => event.pointerId === drag?.pointerId && finish(false);
  const onKey = (event) => event.key === 'Escape' && finish(false);
  const onTouchMove = (event) => drag?.ghost && event.preventDefault();
  const onNativeDrag = (event) => event.preventDefault();

  board.addEventListener('pointerdown', onDown);
  board.addEventListener('touchmove', onTouchMove, { passive: false });
  board.addEventListener('dragstart', onNativeDrag);
  addEventListener('pointermove', onMove);
  addEventListener('pointerup', onUp);
  addEventListener('pointercancel', onCancel);
  addEventListener('keydown', onKey);
  return () => {
    finish(false);
    removeEventListener('pointermove', onMove);
    removeEventListener('pointerup', onUp);
    removeEventListener('pointercancel', onCancel);
    removeEventListener('keydown', onKey);
  };
}
