/** A picture in RGB, and the one file format that needs no library. */

/** 8 bits a component, 3 bytes a pixel, rows without padding. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/** A colour as 0xrrggbb. */
export type Colour = number;

export function newPicture(width: number, height: number): Picture {
  return { width, height, rgb: new Uint8Array(width * height * 3) };
}

export function setPixel(picture: Picture, x: number, y: number, colour: Colour): void {
  const at = (y * picture.width + x) * 3;
  picture.rgb[at] = colour >>> 16;
  picture.rgb[at + 1] = (colour >>> 8) & 0xff;
  picture.rgb[at + 2] = colour & 0xff;
}

/** Portable pixmap, binary form. */
export function toPpm(picture: Picture): Uint8Array {
  const header = new TextEncoder().encode(`P6\n${picture.width} ${picture.height}\n255\n`);
  const out = new Uint8Array(header.length + picture.rgb.length);
  out.set(header);
  out.set(picture.rgb, header.length);
  return out;
}
