import Foundation
import MLX

/// The weights of model.safetensors as arrays over one mapped file: pages come from storage when they are read, and the
/// system may take them back. MLX's own loader reads the whole file into memory instead.
public enum MappedWeights {
    public enum Fault: Error {
        case notReadable(String)
        case notSafetensors(String)
        case notOnAPage(Int)
    }

    static let page = 16384

    struct Entry: Decodable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    /// Maps `url` and returns its tensors by name. The mapping lives as long as any of them.
    public static func load(_ url: URL) throws -> [String: MLXArray] {
        let descriptor = open(url.path, O_RDONLY)
        guard descriptor >= 0 else { throw Fault.notReadable(url.path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Fault.notReadable(url.path) }
        let size = Int(status.st_size)
        guard size > 8, let base = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            throw Fault.notReadable(url.path)
        }
        let length = Int(UInt64(littleEndian: base.load(as: UInt64.self)))
        let begins = 8 + length
        guard length > 0, begins < size else {
            munmap(base, size)
            throw Fault.notSafetensors(url.path)
        }
        guard begins % page == 0 else {
            munmap(base, size)
            throw Fault.notOnAPage(begins)
        }
        let entries = try decode(Data(bytes: base + 8, count: length))
        let count = size - begins
        let whole = MLXArray(rawPointer: base + begins, [count], dtype: .uint8) { munmap(base, size) }
        var found: [String: MLXArray] = [:]
        for (name, entry) in entries {
            let part = whole[entry.data_offsets[0] ..< entry.data_offsets[1]]
            found[name] = part.view(dtype: try type(entry.dtype)).reshaped(entry.shape)
        }
        return found
    }

    static func decode(_ header: Data) throws -> [String: Entry] {
        guard let raw = try JSONSerialization.jsonObject(with: header) as? [String: Any] else {
            throw Fault.notSafetensors("header")
        }
        let tensors = raw.filter { item in item.key != "__metadata__" }
        let data = try JSONSerialization.data(withJSONObject: tensors)
        return try JSONDecoder().decode([String: Entry].self, from: data)
    }

    static func type(_ name: String) throws -> DType {
        switch name {
        case "F16": return .float16
        case "BF16": return .bfloat16
        case "F32": return .float32
        case "U32": return .uint32
        case "U8": return .uint8
        case "I32": return .int32
        default: throw Fault.notSafetensors("a tensor of type " + name)
        }
    }
}
