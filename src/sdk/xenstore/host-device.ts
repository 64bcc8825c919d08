/** The xenbus device of an embedded host, for a process that is not under its library. */
import { HostClient } from '../host-client.js';
import { DEVICE_PAYLOAD_MAX } from './device-transport.js';
import { SocketTransport } from './socket-transport.js';
import type { Transport } from './transport.js';

/** @param host the host's socket @throws SystemError where nobody listens there, XenDeviceError */
export function openHostDevice(host: string): Transport {
  const client = new HostClient(host);
  try {
    return SocketTransport.adopt(`/dev/xen/xenbus of ${host}`, client.openHanded('xenbus'), DEVICE_PAYLOAD_MAX);
  } finally {
    client.close();
  }
}
