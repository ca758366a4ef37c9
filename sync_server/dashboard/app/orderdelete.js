/** Deleting an order, which cannot be taken back. */

import { confirmed } from './dialog.js';
import { t } from './words.js';

/** Whether it was asked for. */
export async function askToDelete(shop, orderID) {
  const isMeant = await confirmed({
    title: t('order.delete.title', { id: orderID }), text: t('order.delete.text'), action: t('order.delete'),
  });
  if (isMeant) shop.send('orders.delete', { orderID });
  return isMeant;
}
