/**
 * The guest that `postern run` plays until real vCPUs run one: it does what firmware does to a PC's devices at start-up,
 * then keeps reading and writing registers. In the language of docs/io-player.md.
 */
export const START_SCRIPT = `
# look at the host bridge and the devices behind it
cfgread 00:00.0 0x00 4
cfgread 00:01.0 0x00 4
cfgread 00:02.0 0x00 4
cfgread 00:03.0 0x00 4
# serial port: 115200 baud, 8n1, FIFOs on
outb 0x3fb 0x80
outb 0x3f8 1
outb 0x3f9 0
outb 0x3fb 0x03
outb 0x3fa 0x07
`;

/** Kept up without end: configuration space, serial port and VGA registers. */
export const LOOP_SCRIPT = `
cfgread 00:00.0 0x00 4
inb 0x3fd
outb 0x3ff 0x5a
inb 0x3ff
inb 0x3da
outb 0x3d4 0x0e
inb 0x3d5
`;
