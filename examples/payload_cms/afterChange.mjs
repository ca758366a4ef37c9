import { createHmac } from "node:crypto";

const ATTEMPTS = 5;

/** Tells order-sync of a document that was created or changed. A CMS that cannot reach it goes on, and says so. */
export async function tellOrderSync({ doc, operation }) {
  // The same change has the same id, however often it is sent: it becomes one event.
  const body = JSON.stringify({ id: `${doc.id}:${doc.updatedAt}`, operation, doc });
  for (let attempt = 1; ; attempt++) {
    const failure = await post(body);
    if (failure === null) return doc;
    if (attempt === ATTEMPTS || !failure.passing) {
      console.error(`order-sync does not know of ${doc.id}: ${failure.why}`);
      return doc;
    }
    await new Promise((resume) => setTimeout(resume, 250 * 2 ** attempt * (0.5 + Math.random())));
  }
}

async function post(body) {
  const timestamp = Math.floor(Date.now() / 1000).toString();
  const signature = createHmac("sha256", process.env.ORDER_SYNC_SECRET).update(`${timestamp}.${body}`).digest("hex");
  try {
    const reply = await fetch(`${process.env.ORDER_SYNC_URL}/api/v1/webhooks/cms`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Timestamp": timestamp, "X-Signature": signature },
      body,
      signal: AbortSignal.timeout(5000),
    });
    // 409: this very request was taken before, and only its answer was lost.
    if (reply.ok || reply.status === 409) return null;
    return { passing: reply.status >= 500 || reply.status === 429, why: `${reply.status} ${await reply.text()}` };
  } catch (error) {
    return { passing: true, why: String(error) };
  }
}
