/**
 * A QMP client: JSON messages, one a line, over a Unix socket. The peer is a device model, which may be compromised:
 * what it sends is bounded, matched by id, and a peer that breaks the protocol is cut off.
 *
 * @spec qemu:docs/interop/qmp-spec.txt
 */
import { connect, type Socket } from 'node:net';

/** Bytes of one message; QEMU's biggest, query-qmp-schema, is about 300 KiB. */
const MAX_MESSAGE_BYTES = 4 << 20;

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
}

interface QmpMessage {
  QMP?: unknown;
  return?: unknown;
  error?: { class?: unknown; desc?: unknown };
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
  ) {
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', (error) => this.fail(new QmpError('Disconnected', `QMP socket: ${error.message}`)));
    socket.on('close', () => this.fail(new QmpError('Disconnected', 'the device model closed its QMP socket')));
  }

  /**
   * Connects and negotiates.
   * @throws QmpError
   */
  static async connect(path: string, onEvent: (name: string, data: unknown) => void = () => {}): Promise<QmpClient> {
    const client = new QmpClient(connect(path), onEvent);
    await new Promise<unknown>((resolve, reject) => {
      client.greeted = { resolve, reject };
    });
    await client.execute('qmp_capabilities');
    return client;
  }

  /** Runs one command. @throws QmpError with QMP's own class, or ours */
  execute(command: string, args?: object): Promise<unknown> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) return reject(new QmpError('Disconnected', `${command}: the connection is closed`));
      this.pending.set(id, { resolve, reject });
      this.socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    });
  }

  close(): void {
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
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
    this.pending.delete(message.id as number);
    if (message.error === undefined) pending.resolve(message.return);
    else pending.reject(new QmpError(String(message.error.class), String(message.error.desc)));
  }

  private violation(what: string): void {
    this.fail(new QmpError('Protocol', `the device model broke the QMP protocol: ${what}`));
  }

  private fail(error: QmpError): void {
    this.socket.destroy();
    this.greeted?.reject(error);
    this.greeted = undefined;
    for (const pending of this.pending.values()) pending.reject(error);
    this.pending.clear();
  }
}
