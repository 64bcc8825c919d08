/**
 * A QMP client: JSON messages, one a line, over a Unix socket. The peer is a device model, which may be compromised:
 * what it sends is bounded, matched by id, and a peer that breaks the protocol is cut off.
 *
 * @spec qemu:docs/interop/qmp-spec.txt
 */
import { connect, type Socket } from 'node:net';

/** Bytes of one message; QEMU's biggest, query-qmp-schema, is about 300 KiB. */
const MAX_MESSAGE_BYTES = 4 << 20;
/** No command here takes this long: a peer that keeps silent must not hold up its toolstack. */
const TIMEOUT_MS = 15_000;

export class QmpError extends Error {
  override readonly name = 'QmpError';
  /** @param errorClass QMP's class, or `Disconnected`, `Protocol`, `Timeout` */
  constructor(
    readonly errorClass: string,
    message: string,
  ) {
    super(message);
  }
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: QmpError): void;
  readonly timer: NodeJS.Timeout;
}

interface QmpMessage {
  QMP?: unknown;
  return?: unknown;
  error?: { class?: unknown; desc?: unknown } | null;
  event?: unknown;
  data?: unknown;
  id?: unknown;
}

export class QmpClient {
  private readonly pending = new Map<number, Pending>();
  private readonly buffered: Buffer[] = [];
  private bufferedBytes = 0;
  private nextId = 1;
  private greeted: Pending | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly onEvent: (name: string, data: unknown) => void,
    private readonly timeoutMs: number,
  ) {
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', (error) => this.fail(new QmpError('Disconnected', `QMP socket: ${error.message}`)));
    socket.on('close', () => this.fail(new QmpError('Disconnected', 'the device model closed its QMP socket')));
  }

  /**
   * Connects and negotiates.
   * @param timeoutMs how long the greeting and each answer may take
   * @throws QmpError
   */
  static async connect(
    path: string,
    onEvent: (name: string, data: unknown) => void = () => {},
    timeoutMs = TIMEOUT_MS,
  ): Promise<QmpClient> {
    const client = new QmpClient(connect(path), onEvent, timeoutMs);
    await new Promise<unknown>((resolve, reject) => {
      client.greeted = { resolve, reject, timer: client.timer('the greeting') };
    });
    await client.execute('qmp_capabilities');
    return client;
  }

  /** Runs one command. @throws QmpError with QMP's own class, or ours */
  execute(command: string, args?: object): Promise<unknown> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) return reject(new QmpError('Disconnected', `${command}: the connection is closed`));
      this.pending.set(id, { resolve, reject, timer: this.timer(command) });
      this.socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    });
  }

  close(): void {
    this.socket.destroy();
  }

  private timer(what: string): NodeJS.Timeout {
    const late = () => this.fail(new QmpError('Timeout', `${what}: no answer within ${this.timeoutMs} ms`));
    return setTimeout(late, this.timeoutMs);
  }

  private receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      if (this.socket.destroyed) return; // cut off by what came before in this chunk
      this.buffered.push(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
      const line = Buffer.concat(this.buffered).toString('utf8').trim();
      this.buffered.length = 0;
      this.bufferedBytes = 0;
      if (line !== '') this.message(line);
    }
    this.buffered.push(rest);
    this.bufferedBytes += rest.length;
    if (this.bufferedBytes > MAX_MESSAGE_BYTES) this.violation(`message of more than ${MAX_MESSAGE_BYTES} bytes`);
  }

  private message(line: string): void {
    let message: QmpMessage;
    try {
      message = JSON.parse(line) as QmpMessage;
    } catch {
      return this.violation('not JSON');
    }
    if (typeof message !== 'object' || message === null) return this.violation('not an object');
    if (message.QMP !== undefined) {
      clearTimeout(this.greeted?.timer);
      this.greeted?.resolve(undefined);
      this.greeted = undefined;
    } else if (typeof message.event === 'string') {
      this.onEvent(message.event, message.data);
    } else {
      this.answer(message);
    }
  }

  private answer(message: QmpMessage): void {
    const pending = typeof message.id === 'number' ? this.pending.get(message.id) : undefined;
    if (!pending) return this.violation('an answer to nothing that was asked');
    const { error } = message;
    if (error === undefined && message.return === undefined) return this.violation('an answer without a result');
    if (error !== undefined && (typeof error?.class !== 'string' || typeof error.desc !== 'string')) {
      return this.violation('an error without class and description');
    }
    this.pending.delete(message.id as number);
    clearTimeout(pending.timer);
    if (error === undefined) pending.resolve(message.return);
    else pending.reject(new QmpError(error.class as string, error.desc as string));
  }

  private violation(what: string): void {
    this.fail(new QmpError('Protocol', `the device model broke the QMP protocol: ${what}`));
  }

  private fail(error: QmpError): void {
    this.socket.destroy();
    const waiting = [...this.pending.values(), ...(this.greeted ? [this.greeted] : [])];
    this.greeted = undefined;
    this.pending.clear();
    for (const { timer, reject } of waiting) {
      clearTimeout(timer);
      reject(error);
    }
  }
}
