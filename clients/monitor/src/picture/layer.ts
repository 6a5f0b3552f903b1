// A picture that is drawn piece by piece over several frames, behind the one that is shown, and shown when complete.
// A fine one goes through a multisampled buffer, which costs a software renderer four times as much.
import type { Rgb } from './colour';

interface Sheet {
  texture: WebGLTexture;
  target: WebGLFramebuffer;
  width: number;
  height: number;
}

export class Layer {
  width = 0;
  height = 0;
  private front: Sheet;
  private back: Sheet;
  private readonly smooth: WebGLFramebuffer;
  private readonly samples: WebGLRenderbuffer;
  private fine = false;

  constructor(private readonly gl: WebGL2RenderingContext) {
    this.front = this.sheet();
    this.back = this.sheet();
    this.smooth = gl.createFramebuffer();
    this.samples = gl.createRenderbuffer();
  }

  get shown(): WebGLTexture {
    return this.front.texture;
  }

  /** Begin a new picture, of one colour. */
  begin(width: number, height: number, [red, green, blue]: Rgb, fine: boolean): void {
    const { gl } = this;
    this.fine = fine;
    if (width !== this.width || height !== this.height) this.size(width, height);
    // Only the hidden sheet: the one that is shown keeps its size until its successor is complete.
    if (width !== this.back.width || height !== this.back.height) this.allot(this.back);
    this.bind();
    gl.clearColor(red, green, blue, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  /** Draw into the picture that was begun. */
  bind(): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.fine ? this.smooth : this.back.target);
    gl.viewport(0, 0, this.width, this.height);
  }

  /** The picture is complete: show it. */
  finish(): void {
    const { gl, width, height } = this;
    if (this.fine) {
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.smooth);
      gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, this.back.target);
      gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    }
    [this.front, this.back] = [this.back, this.front];
  }

  /** Copy the one that is shown to the canvas, where that has its size. False: it has not. */
  copy(width: number, height: number): boolean {
    const { gl, front } = this;
    if (front.width !== width || front.height !== height) return false;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, front.target);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    return true;
  }

  private sheet(): Sheet {
    const { gl } = this;
    return { texture: gl.createTexture(), target: gl.createFramebuffer(), width: 0, height: 0 };
  }

  private size(width: number, height: number): void {
    const { gl } = this;
    this.width = width;
    this.height = height;
    gl.bindRenderbuffer(gl.RENDERBUFFER, this.samples);
    const samples = Math.min(4, gl.getParameter(gl.MAX_SAMPLES) as number);
    gl.renderbufferStorageMultisample(gl.RENDERBUFFER, samples, gl.RGBA8, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.smooth);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, this.samples);
  }

  private allot(sheet: Sheet): void {
    const { gl } = this;
    const { texture, target } = sheet;
    sheet.width = this.width;
    sheet.height = this.height;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, this.width, this.height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    for (const [name, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.LINEAR],
      [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
    ] as const) {
      gl.texParameteri(gl.TEXTURE_2D, name, value);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  }
}
