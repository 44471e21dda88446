// What the page must tell: which controls there are, what a picture shows, and when all is still.
(() => {
  const panel = () => document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)') || document.body;
  const cells = () => [...panel().querySelectorAll('.jp-Cell')];
  const output = cell => cells()[cell].querySelector('.jp-Cell-outputArea');
  const shown = element => element.getClientRects().length > 0;
  const within = (cell, what) => (output(cell) ? [...output(cell).querySelectorAll(what)].filter(shown) : []);
  const explorers = cell => within(cell, '.causal-explorer');
  const pictures = cell => within(cell, 'img, canvas, svg')
    .filter(element => !element.closest('button, .jp-OutputPrompt, .jp-OutputArea-promptOverlay'));
  const digest = async what => {
    const bytes = typeof what === 'string' ? new TextEncoder().encode(what) : what;
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...hash].map(byte => byte.toString(16).padStart(2, '0')).join('');
  };
  const seen = picture => {
    const { tagName, width, height } = picture;
    if (tagName !== 'CANVAS') return tagName === 'IMG' ? picture.currentSrc || picture.src : picture.outerHTML;
    return width * height ? picture.getContext('2d').getImageData(0, 0, width, height).data : '';
  };
  const read = root => [...root.querySelectorAll('figcaption, .legend, .words, .caption')].map(e => e.innerHTML);
  const words = cell => explorers(cell).map(root => root.querySelector('.said').textContent).join('');
  const frame = () => new Promise(requestAnimationFrame);

  const heard = [], asked = new Set();
  window.lab = {
    controls() {
      const found = [];
      cells().forEach((_, cell) => {
        for (const element of within(cell, '.causal-explorer :is([data-control], .control button)')) {
          element.dataset.labControl = found.length;
          found.push({
            cell,
            kind: element.tagName === 'BUTTON' ? 'play' : element.type.replace('-one', ''),
            label: (element.labels[0]?.innerText ?? element.ariaLabel ?? '').trim(),
          });
        }
      });
      return found;
    },
    canvases: cell => within(cell, '.causal-explorer canvas').map((canvas, number) => {
      canvas.dataset.labCanvas = `${cell}-${number}`;
      return canvas.dataset.labCanvas;
    }),
    of: control => document.querySelector(`[data-lab-control="${control}"]`),
    // What a button plays is the slider beside it.
    field: control => lab.of(control).closest('.control').querySelector('[data-control]'),
    disabled: control => lab.of(control).disabled,
    value: control => lab.field(control).value,
    atEnd(control) {
      const { value, max, options, selectedIndex } = lab.field(control);
      return options ? selectedIndex === options.length - 1 : value === max;
    },
    // Where a menu or a slider could stand; of a slider, its ends.
    places(control) {
      const { options, max, min } = lab.field(control);
      return options ? [...options].map(one => one.value) : max ? [max, min] : [];
    },
    put(control, value) {
      const field = lab.field(control);
      field.value = value;
      field.dispatchEvent(new Event(field.options ? 'change' : 'input'));
    },
    // Where the thumb of a slider is, as a share of its track.
    share: control => (({ value, min, max }) => (value - min) / (max - min))(lab.field(control)),
    words,
    // Whether a canvas shows one thing only, so that there is nowhere to walk to.
    alone(canvas) {
      const root = document.querySelector(`[data-lab-canvas="${canvas}"]`).closest('.causal-explorer');
      const number = [...root.querySelectorAll('canvas')].findIndex(one => one.dataset.labCanvas === canvas);
      const panel = root.drawn().panels.filter(({ kind }) => kind !== 'Sentence')[number];
      return panel.kind === 'Bars' && panel.heights.shape[1] === 1;
    },
    // Stand right before something, so that the key Tab leads there.
    before(element) {
      const step = document.createElement('span');
      Object.assign(step, { tabIndex: -1, onblur: () => step.remove() });
      Object.assign(step.style, { position: 'absolute', outline: 'none' });
      element.before(step);
      step.focus({ preventScroll: true });
    },
    // The middle of what is framed on a canvas.
    framed(canvas) {
      const frame = document.querySelector(`[data-lab-canvas="${canvas}"]`).parentElement.querySelector('.cursor');
      const { left, top, width, height } = frame.getBoundingClientRect();
      return frame.hidden ? null : [left + width / 2, top + height / 2];
    },
    name: cell => { output(cell).id = `lab-cell-${cell}`; },
    // All has been still for two frames: the kernel, and every explorer drew what it was asked.
    async still(seconds) {
      const end = performance.now() + 1000 * seconds;
      for (let frames = 0; performance.now() < end; await frame()) {
        if (lab.kernel().status === 'dead') throw new Error('the kernel died');
        const busy = lab.kernel().status !== 'idle' || asked.size
          || document.querySelector('.causal-explorer[data-state=waiting]');
        frames = busy ? 0 : frames + 1;
        if (frames > 2) return true;
      }
      return false;
    },
    shows: cell => Promise.all([...pictures(cell).map(seen), ...explorers(cell).flatMap(read)].map(digest)),
    // How much lies under a cell; moving must add nothing.
    heap: cell => [within(cell, '.jp-OutputArea-child').length, explorers(cell).length,
      pictures(cell).filter(one => !one.closest('.causal-explorer')).length],
    complaints: cell => within(cell, '.causal-explorer .error').map(e => e.innerText).filter(Boolean),
    failed: () => [...panel().querySelectorAll('.jp-OutputArea-output')].map(e => e.innerText)
      .filter(text => /^(Error displaying widget|Loading widget|Failed to load model)/.test(text.trim())),
    kernel: () => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel,
    // Lab shows what a callback raises in its log only; here it is heard. What was sent to the
    // kernel is under way until the kernel is idle again because of it.
    listen() {
      this.kernel().anyMessage.connect((_, { msg, direction }) => {
        const { header: { msg_type: type, msg_id: id }, content, channel } = msg;
        if (direction === 'send' && channel === 'shell') asked.add(id);
        if (direction !== 'recv' || channel !== 'iopub') return;
        if (content.execution_state === 'idle') asked.delete(msg.parent_header.msg_id);
        if (type === 'error') heard.push(`${content.ename}: ${content.evalue}`);
        // Lab asks for old widgets before the kernel knows what a widget is.
        if (type === 'stream' && content.name === 'stderr' && !/^No such comm/.test(content.text)) {
          heard.push(content.text);
        }
      });
    },
    heard: () => heard,
    ran() {
      const code = window.jupyterapp.shell.currentWidget.content.widgets
        .filter(w => w.model.type === 'code' && w.model.sharedModel.getSource().trim());
      return code.every(w => w.model.executionCount) && code.length;
    },
    errors() {
      return window.jupyterapp.shell.currentWidget.content.widgets
        .filter(w => w.model.type === 'code')
        .flatMap((w, i) => w.model.outputs.toJSON()
          .filter(o => o.output_type === 'error' || (o.output_type === 'stream' && o.name === 'stderr'))
          .map(o => `${o.ename || 'stderr'}: ${o.evalue || [].concat(o.text).join('')}`));
    },
  };
})();
