// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "$PRODUCT",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "$PRODUCT", targets: ["$PRODUCT"])],
    dependencies: [
        .package(url: "https://github.com/ml-explore/mlx-swift-lm", .upToNextMinor(from: "2.29.1")),
        .package(url: "https://github.com/ml-explore/mlx-swift", .upToNextMinor(from: "0.29.1")),
    ],
    targets: [
        .target(
            name: "$PRODUCT",
            dependencies: [
                .product(name: "MLX", package: "mlx-swift"),
                .product(name: "MLXLLM", package: "mlx-swift-lm"),
                .product(name: "MLXLMCommon", package: "mlx-swift-lm"),
            ],
            path: "Sources")
    ]
)
