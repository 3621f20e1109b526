include $(sort $(wildcard $(BR2_EXTERNAL_EDGEWRIGHT_PATH)/package/*/*.mk))
