// What is on the GPU: the records, the element index of the edges, and the programs. Knows nothing of time but `now`.
import type { Edges } from '../state/edges';
import { type Camera, same, ticks, type Viewport } from './camera';
import { edgeAlpha, type Paint } from './colour';
import { Layer } from './layer';
import { FLASH_S, type Places, STRIDE } from './places';
import { Program } from './program';
import * as shaders from './shaders';

/** Above this many changed records one upload of all is cheaper than one each. */
const SINGLE_UPLOADS_MOST = 256;

export interface Look {
  paint: Paint;
  camera: Camera;
  viewport: Viewport;
  /** Device pixels per CSS pixel. */
  density: number;
  now: number;
  radius: number;
  moveS: number;
  ramp: Float32Array;
  /** Without motion: what changed is marked, and does not fade. */
  still: boolean;
  /** 1: nothing is picked out. Less: all else steps back. */
  alpha: number;
}

/** A sheet that is being drawn: first all edges, then all points, from `next` on. */
interface Pass {
  look: Look;
  next: number;
  /** Whether edges light up with the tokens that changed. */
  glow: boolean;
}

/** Drawing a point takes about as long as that many edges (measured without a GPU). */
const POINT_COST = 1;

export class Scene {
  private readonly gl: WebGL2RenderingContext;
  private readonly points: Program;
  private readonly lines: Program;
  private readonly sheet: Program;
  private readonly ruler: Program;
  private readonly records: WebGLBuffer;
  private readonly index: WebGLBuffer;
  private readonly picked: WebGLBuffer;
  private readonly hot: WebGLBuffer;
  private readonly rules: WebGLBuffer;
  private readonly recordsArray: WebGLVertexArrayObject;
  private readonly rulesArray: WebGLVertexArrayObject;
  private readonly layer: Layer;
  private capacity = 0;
  private indexed = 0;
  private pickedLines = 0;
  private pickedPoints = 0;
  private drawnCamera: Camera | null = null;
  private drawnHalf: [number, number] = [1, 1];
  private pass: Pass | null = null;
  /** The `now` of the sheet that is shown. */
  drawnAt = Number.NEGATIVE_INFINITY;

  constructor(canvas: HTMLCanvasElement) {
    const gl = canvas.getContext('webgl2', { alpha: false, antialias: false, depth: false, stencil: false });
    if (!gl) throw new Error('no WebGL2');
    this.gl = gl;
    this.points = new Program(gl, shaders.POINT_VERTEX, shaders.POINT_FRAGMENT);
    this.lines = new Program(gl, shaders.EDGE_VERTEX, shaders.EDGE_FRAGMENT);
    this.sheet = new Program(gl, shaders.LAYER_VERTEX, shaders.LAYER_FRAGMENT);
    this.ruler = new Program(gl, shaders.GRID_VERTEX, shaders.GRID_FRAGMENT);
    [this.records, this.index, this.picked, this.hot, this.rules] = [0, 0, 0, 0, 0].map(() => gl.createBuffer()) as [
      WebGLBuffer,
      WebGLBuffer,
      WebGLBuffer,
      WebGLBuffer,
      WebGLBuffer,
    ];
    this.recordsArray = this.array(this.records, [4, 4], STRIDE * 4);
    this.rulesArray = this.array(this.rules, [2], 8);
    this.layer = new Layer(gl);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Bring what changed of the records to the GPU. */
  upload(places: Places): void {
    const { gl } = this;
    if (!places.allDirty && places.dirty.size === 0) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.records);
    const used = places.records.subarray(0, places.count * STRIDE);
    if (this.capacity !== places.records.length) {
      gl.bufferData(gl.ARRAY_BUFFER, places.records, gl.DYNAMIC_DRAW);
      this.capacity = places.records.length;
    } else if (places.allDirty || places.dirty.size > SINGLE_UPLOADS_MOST) {
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, used);
    } else {
      for (const slot of places.dirty) {
        gl.bufferSubData(gl.ARRAY_BUFFER, slot * STRIDE * 4, used, slot * STRIDE, STRIDE);
      }
    }
    places.dirty.clear();
    places.allDirty = false;
  }

  uploadEdges(edges: Edges): void {
    const { gl } = this;
    gl.bindVertexArray(null);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.index);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, edges.ends.subarray(0, edges.slotCount * 2), gl.DYNAMIC_DRAW);
    this.indexed = edges.slotCount;
    // What is half drawn counts on the index that was.
    this.pass = null;
  }

  /** Lines and points that are drawn once more, on top: pairs of slots, and slots. */
  pickOut(pairs: number[], slots: number[]): void {
    const { gl } = this;
    gl.bindVertexArray(null);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.picked);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array([...pairs, ...slots]), gl.DYNAMIC_DRAW);
    this.pickedLines = pairs.length;
    this.pickedPoints = slots.length;
  }

  get drawing(): boolean {
    return this.pass !== null;
  }

  /** What drawing all of it costs, in edges. */
  cost(places: Places): number {
    return this.indexed + places.count * POINT_COST;
  }

  /** Begin to draw all edges and points anew, as they look now, on the hidden sheet. */
  begin(look: Look, fine: boolean, glow: boolean): void {
    this.pass = { look, next: 0, glow };
    this.layer.begin(...pixelsOf(look), look.paint.background, fine);
    this.drawRules(look);
  }

  /** Draw on, for what `budget` edges cost; the last piece shows the sheet. */
  advance(budget: number, tint: number, places: Places): void {
    const { pass } = this;
    if (!pass) return;
    this.layer.bind();
    this.gl.bindVertexArray(this.recordsArray);
    let left = budget;
    if (pass.next < this.indexed) left -= this.drawEdges(pass, Math.min(left, this.indexed - pass.next), tint);
    const from = pass.next - this.indexed;
    if (from >= 0 && left > 0) {
      const some = Math.min(Math.ceil(left / POINT_COST), places.count - from);
      if (some > 0) {
        this.place(this.points, pass.look, false)
          .set('u_radius', pass.look.radius * pass.look.density)
          .set('u_alpha', 1)
          .set('u_ink', ...pass.look.paint.ink);
        this.gl.drawArrays(this.gl.POINTS, from, some);
        pass.next += some;
      }
    }
    if (pass.next < this.indexed + places.count) return;
    this.layer.finish();
    this.drawnCamera = pass.look.camera;
    this.drawnHalf = [pass.look.viewport.width / 2, pass.look.viewport.height / 2];
    this.drawnAt = pass.look.now;
    this.pass = null;
  }

  private drawEdges(pass: Pass, some: number, tint: number): number {
    const { gl } = this;
    const alpha = edgeAlpha(this.indexed) * pass.look.paint.lineStrength;
    this.place(this.lines, pass.look, pass.glow)
      .set('u_alpha', alpha)
      .set('u_line', ...pass.look.paint.line)
      .set('u_tint', tint);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.index);
    gl.drawElements(gl.LINES, some * 2, gl.UNSIGNED_INT, pass.next * 8);
    pass.next += some;
    return some;
  }

  /** Show the sheet where the camera is now, and over it the tokens in `hot`; null: all of them, and no sheet. */
  draw(look: Look, places: Places, hot: Uint32Array | null): void {
    const { gl } = this;
    const { paint } = look;
    const pixels = pixelsOf(look);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, ...pixels);
    // Before a copy too: a browser may clear a canvas at its first drawing since it was shown, and a copy is none.
    gl.clearColor(...paint.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const unmoved = this.drawnCamera !== null && same(this.drawnCamera, look.camera) && look.alpha === 1;
    // To copy is several times cheaper for a software renderer than to draw a textured quad.
    const copied = hot !== null && unmoved && this.layer.copy(...pixels);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    if (!hot) this.drawRules(look);
    else if (!copied) this.drawSheet(look);
    gl.bindVertexArray(this.recordsArray);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.picked);
    if (this.pickedLines > 0) {
      this.place(this.lines, look, true)
        .set('u_alpha', 0.75)
        .set('u_line', ...paint.line)
        .set('u_tint', 0.85);
      gl.drawElements(gl.LINES, this.pickedLines, gl.UNSIGNED_INT, 0);
    }
    if (hot?.length === 0 && this.pickedPoints === 0) return;
    this.place(this.points, look, true)
      .set('u_radius', look.radius * look.density)
      .set('u_alpha', look.alpha)
      .set('u_ink', ...paint.ink);
    if (!hot) gl.drawArrays(gl.POINTS, 0, places.count);
    else if (hot.length > 0) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.hot);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, hot, gl.STREAM_DRAW);
      gl.drawElements(gl.POINTS, hot.length, gl.UNSIGNED_INT, 0);
    }
    if (this.pickedPoints === 0) return;
    this.points.set('u_alpha', 1);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.picked);
    gl.drawElements(gl.POINTS, this.pickedPoints, gl.UNSIGNED_INT, this.pickedLines * 4);
  }

  private drawSheet({ camera, viewport, alpha }: Look): void {
    const { gl, drawnCamera: drawn } = this;
    if (!drawn) return;
    gl.bindVertexArray(null);
    gl.bindTexture(gl.TEXTURE_2D, this.layer.shown);
    // The half is that of the sheet for its corners, and that of the screen for where they come to lie.
    const [halfX, halfY] = this.drawnHalf;
    const [x, y] = [viewport.width / 2, viewport.height / 2];
    this.sheet
      .begin()
      .set('u_camera', camera.x, camera.y, camera.scaleX, camera.scaleY)
      .set('u_drawn', drawn.x, drawn.y, (drawn.scaleX * x) / halfX, (drawn.scaleY * y) / halfY)
      .set('u_half', x, y)
      .set('u_alpha', alpha);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  private drawRules({ camera, viewport, paint }: Look): void {
    const { gl } = this;
    const { width, height } = viewport;
    const at: number[] = [];
    for (const x of ticks(camera.x, camera.scaleX, width)) {
      const place = ((x - camera.x) * camera.scaleX * 2) / width;
      at.push(place, -1, place, 1);
    }
    for (const y of ticks(camera.y, camera.scaleY, height)) {
      const place = ((y - camera.y) * camera.scaleY * 2) / height;
      at.push(-1, place, 1, place);
    }
    gl.bindVertexArray(this.rulesArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.rules);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(at), gl.STREAM_DRAW);
    this.ruler.begin().set('u_color', ...paint.grid, 0.55);
    gl.drawArrays(gl.LINES, 0, at.length / 2);
  }

  private place(program: Program, look: Look, flash: boolean): Program {
    const { camera, viewport } = look;
    return program
      .begin()
      .set('u_camera', camera.x, camera.y, camera.scaleX, camera.scaleY)
      .set('u_half', viewport.width / 2, viewport.height / 2)
      .set('u_now', look.now)
      .set('u_move', look.moveS)
      .set('u_flash', flash ? FLASH_S : 1e-6)
      .set('u_still', look.still ? 1 : 0)
      .setVec3s('u_ramp[0]', look.ramp);
  }

  private array(buffer: WebGLBuffer, sizes: number[], stride: number): WebGLVertexArrayObject {
    const { gl } = this;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    let offset = 0;
    sizes.forEach((size, location) => {
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, size, gl.FLOAT, false, stride, offset);
      offset += size * 4;
    });
    gl.bindVertexArray(null);
    return array;
  }
}

function pixelsOf({ viewport, density }: Look): [number, number] {
  return [Math.max(1, Math.round(viewport.width * density)), Math.max(1, Math.round(viewport.height * density))];
}
