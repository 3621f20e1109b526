################################################################################
#
# edgewright-model
#
################################################################################

include $(sort $(wildcard $(BR2_EXTERNAL_EDGEWRIGHT_PATH)/package/edgewright-model/*.inc))

EDGEWRIGHT_MODEL_SITE = $(BR2_EXTERNAL_EDGEWRIGHT_PATH)/..
EDGEWRIGHT_MODEL_SITE_METHOD = local

define EDGEWRIGHT_MODEL_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) $(TARGET_CONFIGURE_OPTS) -C $(@D)/sample edgewright-ask
endef

define EDGEWRIGHT_MODEL_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/var/lib/edgewright/b
	cp -R $(@D)/root/. $(TARGET_DIR)/
	$(INSTALL) -D -m 0755 $(@D)/sample/edgewright-ask $(TARGET_DIR)/usr/bin/edgewright-ask
endef

define EDGEWRIGHT_MODEL_USERS
	edgewright -1 edgewright -1 * - - - Edgewright server
endef

$(eval $(generic-package))
