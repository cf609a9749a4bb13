/** What a picture is. */
export interface Picture {
  format: string;
  width: number;
  height: number;
}

/** Most pixels a picture may decode to: a small file can claim to be a huge one (decompression bomb). */
const mostPixels = 100_000_000;

/**
 * Decodes a picture to its last pixel, so that a truncated file is found. Null when it cannot be decoded. Sharp (libvips)
 * is loaded on use.
 */
export async function decodePicture(bytes: Uint8Array): Promise<Picture | null> {
  const { default: sharp } = await import('sharp');
  try {
    const picture = sharp(bytes, { failOn: 'warning', limitInputPixels: mostPixels });
    const { format, width, height } = await picture.metadata();
    // SVG, PDF and the like are programs rather than pictures, and may reach for other files.
    if (!['png', 'jpeg', 'gif', 'webp'].includes(format)) return { format, width, height };
    await picture.stats();
    return { format, width, height };
  } catch {
    return null;
  }
}

/**
 * The pixels of a picture as unsigned bytes, row by row, `height × width × channels`: grey (1) or red, green and blue (3),
 * turned as its EXIF data says, on white where it is transparent, scaled to exactly this size. Null when it cannot be decoded.
 */
export async function picturePixels(
  bytes: Uint8Array,
  [height, width, channels]: readonly [height: number, width: number, channels: 1 | 3],
): Promise<Uint8Array | null> {
  const { default: sharp } = await import('sharp');
  try {
    // The first frame of an animation. What shrinks while it is decoded depends on the decoder's version.
    const { data } = await sharp(bytes, { failOn: 'warning', limitInputPixels: mostPixels })
      .autoOrient()
      .flatten({ background: '#fff' })
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .resize(width, height, { fit: 'fill', fastShrinkOnLoad: false })
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return data.length === height * width * channels ? new Uint8Array(data) : null;
  } catch {
    return null;
  }
}

/** A PNG of a picture, turned as its EXIF data says, that fits into `side` × `side` pixels; null when it cannot be decoded. */
export async function thumbnail(bytes: Uint8Array, side: number): Promise<Buffer | null> {
  const { default: sharp } = await import('sharp');
  try {
    const picture = sharp(bytes, { failOn: 'none', limitInputPixels: mostPixels });
    const { width, height } = await picture.metadata();
    // Pixels of a small picture stay pixels; a large one would be speckled.
    const kernel = Math.max(width, height) > side ? 'lanczos3' : 'nearest';
    return await picture
      .autoOrient()
      .resize(side, side, { fit: 'inside', kernel })
      .png({ compressionLevel: 9, palette: true })
      .toBuffer();
  } catch {
    return null;
  }
}

/** A PNG of one grey or colour item of a tensor data set: `[height, width]` or `[height, width, 1|3]`, unsigned bytes. */
export async function tensorThumbnail(
  bytes: Uint8Array,
  shape: readonly number[],
  side: number,
): Promise<Buffer | null> {
  const [height, width, channels = 1] = shape;
  if (!height || !width || shape.length > 3 || (channels !== 1 && channels !== 3)) return null;
  const { default: sharp } = await import('sharp');
  return sharp(bytes, { raw: { width, height, channels } })
    .resize(side, side, { fit: 'inside', kernel: 'nearest' })
    .png({ compressionLevel: 9 })
    .toBuffer();
}
