// Server-sent events: bytes in, frames out.

export class SseParser {
    #buffer = '';
    #decoder = new TextDecoder();

    // Frames that are complete after these bytes: {event, data, id}; a comment is {comment}.
    push(bytes) {
        this.#buffer += this.#decoder.decode(bytes, { stream: true });
        const frames = [];
        for (;;) {
            const end = this.#buffer.indexOf('\n\n');
            if (end < 0) return frames;
            frames.push(parseFrame(this.#buffer.slice(0, end)));
            this.#buffer = this.#buffer.slice(end + 2);
        }
    }
}

function parseFrame(text) {
    const frame = { event: null, id: null, data: null };
    const data = [];
    for (const line of text.split('\n')) {
        if (line.startsWith(':')) {
            frame.comment = line.slice(1);
            continue;
        }
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (field === 'data') data.push(value);
        else if (field === 'event' || field === 'id') frame[field] = value;
    }
    if (data.length > 0) frame.data = data.join('\n');
    return frame;
}

// The frames of a fetch response, one by one.
export async function* frames(response) {
    const parser = new SseParser();
    for await (const chunk of response.body) yield* parser.push(chunk);
}
