/**
 * Transactions: a callback's reads and writes happen all at one moment or not at all. When somebody else was faster, the
 * server answers EAGAIN to the commit and the callback runs again.
 *
 *     start ──▶ callback ──▶ commit ──▶ done
 *       ▲          │            └─EAGAIN─▶ pause ──▶ start …
 *       └──────────┼─────────────────────────┘
 *                  └─throws, or aborted─▶ abort: no effect
 */
import { XS_TRANSACTION_END, XS_TRANSACTION_START } from '../../abi/xs-wire.js';
import { pause, unlessAborted } from './abort.js';
import type { Call, Connection } from './connection.js';
import { XenStoreError } from './error.js';
import { type RequestOptions, XenStoreNodes } from './nodes.js';
import { payloadOf } from './payload.js';
import { oneString } from './wire.js';

const DEFAULT_RETRIES = 100;
/** Pauses between attempts: none before the second, then up to this, doubling, half of it at random. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 100;

export interface TransactionOptions extends RequestOptions {
  /** How often to try again after a conflict. Default 100. */
  readonly retries?: number;
}

/** Sees the store as it was when the transaction began, with its own changes. */
export class Transaction extends XenStoreNodes {
  #over = false;

  /** Given to the callback of `XenStore.transaction`. */
  constructor(
    private readonly connection: Connection,
    /** 1 to 4294967295; the server's. */
    readonly id: number,
    private readonly signal: AbortSignal | undefined,
  ) {
    super();
  }

  /** Nothing can be asked through it from now on. */
  end(): void {
    this.#over = true;
  }

  protected override request<T>(call: Call<T>): Promise<T> {
    if (this.#over) return Promise.reject(new Error(`${call.operation}: this transaction is over`));
    return this.connection.request({ ...call, transactionId: this.id, signal: call.signal ?? this.signal });
  }
}

/** @throws what the callback throws; XenStoreError; the signal's reason */
export async function runTransaction<T>(
  connect: () => Promise<Connection>,
  callback: (transaction: Transaction) => Promise<T> | T,
  options: TransactionOptions,
): Promise<T> {
  const { signal, retries = DEFAULT_RETRIES } = options;
  for (let attempt = 0; ; attempt++) {
    const outcome = await attemptOnce(await connect(), callback, signal);
    if (outcome.isCommitted) return outcome.value;
    if (attempt >= retries) {
      const detail = `conflicts with other clients at each of ${attempt + 1} attempts; it has had no effect`;
      throw new XenStoreError('EAGAIN', 'transaction', undefined, detail);
    }
    if (attempt > 0) await pause(pauseBefore(attempt), signal);
  }
}

function pauseBefore(attempt: number): number {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  return longest * (0.5 + Math.random() / 2);
}

async function attemptOnce<T>(
  connection: Connection,
  callback: (transaction: Transaction) => Promise<T> | T,
  signal: AbortSignal | undefined,
): Promise<{ isCommitted: true; value: T } | { isCommitted: false }> {
  const transaction = new Transaction(connection, await start(connection, signal), signal);
  let value: T;
  try {
    value = await unlessAborted(Promise.resolve(callback(transaction)), signal);
    signal?.throwIfAborted();
  } catch (error) {
    transaction.end();
    await end(connection, transaction.id, false).catch(() => {}); // the connection is gone, and the transaction with it
    throw error;
  }
  transaction.end();
  try {
    await end(connection, transaction.id, true, signal);
    return { isCommitted: true, value };
  } catch (error) {
    if (!(error instanceof XenStoreError) || error.code !== 'EAGAIN') throw error;
    return { isCommitted: false };
  }
}

function start(connection: Connection, signal: AbortSignal | undefined): Promise<number> {
  return connection.request({
    type: XS_TRANSACTION_START,
    operation: 'transaction start',
    payload: payloadOf(['']),
    signal,
    decode: idFromServer,
    undo: (reply) => void end(connection, idFromServer(reply), false).catch(() => {}),
  });
}

function end(connection: Connection, id: number, commit: boolean, signal?: AbortSignal): Promise<void> {
  return connection.request({
    type: XS_TRANSACTION_END,
    operation: commit ? 'transaction commit' : 'transaction abort',
    transactionId: id,
    payload: payloadOf([commit ? 'T' : 'F']),
    signal,
    decode: () => {},
  });
}

function idFromServer(reply: Buffer): number {
  const text = oneString(reply);
  const id = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (id >= 1 && id <= 0xffffffff) return id;
  throw new XenStoreError('EPROTO', 'transaction start', undefined, "the server's transaction has no number");
}
